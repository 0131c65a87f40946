"""Draw a balanced routing dataset from the experts' own training examples.

A source belongs to the class of the expert whose examples it holds, by the expert's name. Negative sources
together form one more class, for screens that no expert is meant for. Same seed and sources, same bytes.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from datasets_app.errors import InputError
from datasets_app.formats import read_source
from datasets_app.formats.conversation import IMAGE_TAG
from datasets_app.formats.digest import folder_digest
from datasets_app.formats.pictures import check_image, portable, reencode
from datasets_app.formats.routing import SPLITS, write
from datasets_app.formats.rows import RoutingRow, SourceRow
from datasets_app.names import check_name
from workers.recipes.duplicates import BITS, DEFAULT_DISTANCE, near_pairs
from workers.recipes.job import Job, RecipeSpec
from workers.recipes.splits import Split, SplitSource

SYSTEM = "You are a routing classifier. Answer with the adapter's name."
HUMAN = f"{IMAGE_TAG}\nWhich adapter should handle this?"


STEPS = ("read", "write")


class Source(RecipeSpec):
    """One source dataset and the class that its rows belong to."""

    label: str = Field(description="the expert's name, which the router will answer")
    path: Path = Field(description="folder of the source dataset")
    negative: bool = Field(False, description="no expert is meant for these screens; the label is then ignored")
    format: str = Field("llava", description="format of the source dataset")

    @field_validator("label")
    @classmethod
    def _is_name(cls, label: str) -> str:
        return check_name(label, "label")


class Spec(RecipeSpec):
    """What the routing dataset is drawn from, and how."""

    sources: tuple[Source, ...] = Field(min_length=1, description="the source datasets, one or more a class")
    samples_per_class: int = Field(300, ge=1, le=1_000_000, description="samples of each class, all splits together")
    split: Split = Field(Split(), description="fractions of train, val and eval")
    seed: int = Field(0, ge=0, description="decides sides and draws; jobs that share it share the held-out screens")
    draw_seed: int | None = Field(None, ge=0, description="decides the draws alone; default: the seed")
    held_out_only: bool = Field(False, description="draw every sample from the eval side of the split")
    system: str = Field(SYSTEM, min_length=1, description="the router's system turn")
    human: str = Field(HUMAN, description="the router's human turn; {prompt} stands for the user's words")
    none_label: str = Field("none", description="label of the negative sources' class")
    distance: int = Field(
        DEFAULT_DISTANCE, ge=0, le=BITS // 4, description="bits of 1,024 in which near-duplicates may differ"
    )

    @field_validator("none_label")
    @classmethod
    def _is_name(cls, label: str) -> str:
        return check_name(label, "none_label")

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        if self.human.count("{prompt}") > 1:
            raise ValueError("human may hold {prompt} once")
        if self.human.count(IMAGE_TAG) != 1 or IMAGE_TAG in self.system:
            raise ValueError(f"human must hold {IMAGE_TAG} exactly once, system must not")
        if any(source.label == self.none_label for source in self.sources if not source.negative):
            raise ValueError(f"label {self.none_label!r} is kept for the negative sources")
        if len({source.path.resolve() for source in self.sources}) < len(self.sources):
            raise ValueError("a source is listed twice")
        if not self.held_out_only and self.samples_per_class < sum(
            fraction > 0 for fraction in self.split.model_dump().values()
        ):
            raise ValueError("samples_per_class is less than one sample for each split")
        if len(self.labels) < 2:
            raise ValueError("at least two classes are needed to route between")
        return self

    def label_of(self, source: Source) -> str:
        """The class of a source."""
        return self.none_label if source.negative else source.label

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels in label order: alphabetical, the negatives last."""
        experts = sorted({source.label for source in self.sources if not source.negative})
        return (*experts, *([self.none_label] if any(source.negative for source in self.sources) else []))


def run(spec: Spec, job: Job) -> dict[str, Any]:
    """Write the routing dataset into `job.out`; return its `digest` and `metadata`.

    InputError if a source row is wrong, or a class has too few screens on one side of the split.
    """
    sources = [_split(spec, source, done, job) for done, source in enumerate(spec.sources)]
    dropped = _drop_torn(sources, spec.distance)
    (job.out / "images").mkdir()
    splits: dict[str, list[RoutingRow]] = {side: [] for side in SPLITS}
    duplicates = {"exact": 0, "clustered": 0, "across_sources": sum(map(len, dropped))}
    total = spec.samples_per_class * len(spec.labels)
    for index, label in enumerate(spec.labels):
        mine = [i for i, source in enumerate(spec.sources) if spec.label_of(source) == label]
        pools = _pools([(sources[i], dropped[i]) for i in mine], duplicates)
        number = 0
        for side, rows in _draw(spec, label, pools).items():
            for row in rows:
                sample = _sample(spec, f"{label}_{number:05d}", index, row, job.out)
                splits[side].append(sample)
                number += 1
                job.progress("write", index * spec.samples_per_class + number, total)
    for side in SPLITS:
        random.Random(f"{spec.seed}/order/{side}").shuffle(splits[side])
    metadata = _metadata(spec, splits, duplicates)
    write(job.out, splits, metadata)
    return {"digest": folder_digest(job.out), "metadata": metadata}


def _split(spec: Spec, source: Source, done: int, job: Job) -> SplitSource:
    try:
        split = SplitSource(list(read_source(source.path, source.format)), spec.split, spec.seed, spec.distance)
    except InputError as error:
        raise InputError(f"Source {spec.label_of(source)!r}: {error}") from error
    job.progress("read", done + 1, len(spec.sources))
    return split


def _drop_torn(sources: list[SplitSource], distance: int) -> list[set[int]]:
    """Rows to leave out, per source: near-duplicates of another source's row that is held out more strictly.

    A source decides its sides alone, so one screen that occurs in two sources may lie on different sides.
    """
    dropped: list[set[int]] = [set() for _ in sources]
    for b, second in enumerate(sources):
        for a, first in enumerate(sources[:b]):
            for i, j in near_pairs(first.hashes, second.hashes, distance):
                ranks = SPLITS.index(first.sides[i]), SPLITS.index(second.sides[j])
                if ranks[0] < ranks[1]:
                    dropped[a].add(i)
                elif ranks[1] < ranks[0]:
                    dropped[b].add(j)
    return dropped


def _pools(sources: list[tuple[SplitSource, set[int]]], duplicates: dict[str, int]) -> dict[str, list[SourceRow]]:
    """The usable rows of one class per side, each screen and question once; counts the duplicates met."""
    pools: dict[str, list[SourceRow]] = {side: [] for side in SPLITS}
    seen: set[tuple[str, str]] = set()
    for source, torn in sources:
        clusters: set[int] = set()
        for index, row in enumerate(source.rows):
            key = (source.contents[index], row.prompt)
            if key in seen:
                duplicates["exact"] += 1
            elif index not in torn:
                duplicates["clustered"] += source.clusters[index] in clusters
                pools[source.sides[index]].append(row)
            seen.add(key)
            clusters.add(source.clusters[index])
    return pools


def _draw(spec: Spec, label: str, pools: dict[str, list[SourceRow]]) -> dict[str, list[SourceRow]]:
    drawn = {}
    counts = spec.split.counts(spec.samples_per_class)
    if spec.held_out_only:
        counts = {side: spec.samples_per_class if side == "eval" else 0 for side in counts}
    seed = spec.seed if spec.draw_seed is None else spec.draw_seed
    for side, needed in counts.items():
        pool = pools[side]
        if len(pool) < needed:
            raise InputError(
                f"Class {label!r} has {len(pool)} different screens on the {side} side, {needed} are needed: "
                "add source rows or lower samples_per_class."
            )
        drawn[side] = random.Random(f"{seed}/draw/{label}/{side}").sample(pool, needed)
    return drawn


def _sample(spec: Spec, identity: str, index: int, row: SourceRow, out: Path) -> RoutingRow:
    image = out / "images" / f"{identity}.png"
    _write_png(row.image, image)
    return RoutingRow(
        id=identity,
        image=image,
        system=spec.system,
        human=spec.human.replace("{prompt}", row.prompt),
        label=spec.labels[index],
        index=index,
        source_id=row.id,
        prompt=row.prompt,
        answer=row.answer,
    )


def _write_png(source: Path, target: Path) -> None:
    data = source.read_bytes()
    is_png = check_image(data)[0] == "PNG"
    target.write_bytes(portable(data) if is_png else reencode(data))


def _metadata(spec: Spec, splits: dict[str, list[RoutingRow]], duplicates: dict[str, int]) -> dict[str, Any]:
    return {
        "labels": {label: index for index, label in enumerate(spec.labels)},
        "none_label": spec.none_label if spec.none_label in spec.labels else None,
        "counts": {
            side: {label: sum(row.label == label for row in rows) for label in spec.labels}
            for side, rows in splits.items()
        },
        "samples_per_class": spec.samples_per_class,
        "split": spec.split.model_dump(),
        "seed": spec.seed,
        "distance": spec.distance,
        "duplicates": duplicates,
        "template": {"system": spec.system, "human": spec.human},
        "sources": [
            {
                "label": spec.label_of(source),
                "negative": source.negative,
                "format": source.format,
                "digest": folder_digest(source.path),
            }
            for source in spec.sources
        ],
    }


if __name__ == "__main__":
    from workers.recipes.cli import main

    raise SystemExit(main("generate_dataset"))
