"""Draw a routing dataset from the experts' own training examples.

A source belongs to the class of the expert whose examples it holds, by the expert's name. Negative sources
together form one more class, for screens that no expert is meant for. Same seed and sources, same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field, field_validator, model_validator

from datasets_app.errors import InputError
from datasets_app.formats import read_source
from datasets_app.formats.conversation import IMAGE_TAG
from datasets_app.formats.digest import folder_digest
from datasets_app.formats.duplicates import BITS, DEFAULT_DISTANCE, near_pairs
from datasets_app.formats.pictures import check_image, portable, reencode
from datasets_app.formats.routing import SPLITS, write
from datasets_app.formats.rows import RoutingRow, SourceRow
from datasets_app.names import check_name
from workers.recipes.job import Job, RecipeSpec
from workers.recipes.sizing import DEFAULT_WORDS, FEWEST, HELD_OUT, MOST_SAMPLES, SAMPLES, counts
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
    samples_per_class: int | None = Field(
        None, ge=1, le=MOST_SAMPLES, description=f"samples of each class, all splits together; default: {DEFAULT_WORDS}"
    )
    split: Split | None = Field(None, description="fractions of train, val and eval; default: as promotion needs them")
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
        if not self.held_out_only and self.wanted < self.fewest:
            raise ValueError("samples_per_class is less than one sample for each split")
        if len(self.labels) < 2:
            raise ValueError("at least two classes are needed to route between")
        return self

    @property
    def wanted(self) -> int:
        """Samples of a class, all splits together."""
        return self.samples_per_class or SAMPLES

    @property
    def counts(self) -> dict[str, int]:
        """Those of each split, as far as a class has so many."""
        if self.held_out_only:
            return {"train": 0, "val": 0, "eval": self.samples_per_class or HELD_OUT}
        return self._shared_out()

    @property
    def fewest(self) -> int:
        """Samples that a class must have: one for each split that gets any."""
        if self.held_out_only:
            return 1
        return FEWEST if self.split is None else sum(share > 0 for share in self.split.model_dump().values())

    def _shared_out(self) -> dict[str, int]:
        return counts(self.wanted) if self.split is None else self.split.counts(self.wanted)

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

    InputError if a source row is wrong, or a class has fewer different screens than are asked for, or none on a side.
    """
    sources = [_split(spec, source, done, job) for done, source in enumerate(spec.sources)]
    dropped = _drop_torn(sources, spec.distance)
    (job.out / "images").mkdir()
    splits: dict[str, list[RoutingRow]] = {side: [] for side in SPLITS}
    duplicates = {"exact": 0, "clustered": 0, "across_sources": sum(map(len, dropped))}
    drawn = []
    for label in spec.labels:
        mine = [i for i, source in enumerate(spec.sources) if spec.label_of(source) == label]
        drawn.append(_draw(spec, label, _pools([(sources[i], dropped[i]) for i in mine], duplicates)))
    total, written = sum(len(rows) for sides in drawn for rows in sides.values()), 0
    for index, (label, sides) in enumerate(zip(spec.labels, drawn, strict=True)):
        rows = [(side, row) for side in SPLITS for row in sides[side]]
        for number, (side, row) in enumerate(rows):
            splits[side].append(_sample(spec, f"{label}_{number:05d}", index, row, job.out))
            written += 1
            job.progress("write", written, total)
    for side in SPLITS:
        Random(f"{spec.seed}/order/{side}").shuffle(splits[side])
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


@dataclass
class Pool:
    """The usable rows of one class on one side, each with a number that its screen has alone."""

    rows: list[tuple[SourceRow, int]] = field(default_factory=list)

    def draw(self, number: int, random: Random, *, screens_once: bool) -> list[SourceRow]:
        """As many of them as there are, `number` at most; `screens_once`: no screen with a second question."""
        drawn: list[SourceRow] = []
        seen: set[int] = set()
        for row, screen in random.sample(self.rows, len(self.rows)):
            if not (screens_once and screen in seen):
                drawn.append(row)
            seen.add(screen)
        return drawn[:number]


def _pools(sources: list[tuple[SplitSource, set[int]]], duplicates: dict[str, int]) -> dict[str, Pool]:
    """The usable rows of one class per side, each screen and question once; counts the duplicates met."""
    pools = {side: Pool() for side in SPLITS}
    seen: set[tuple[str, str]] = set()
    before = 0
    for source, torn in sources:
        clusters: set[int] = set()
        for index, row in enumerate(source.rows):
            key = (source.contents[index], row.prompt)
            if key in seen:
                duplicates["exact"] += 1
            elif index not in torn:
                duplicates["clustered"] += source.clusters[index] in clusters
                pools[source.sides[index]].rows.append((row, before + source.screens[index]))
            seen.add(key)
            clusters.add(source.clusters[index])
        before += len(source.rows)
    return pools


def _draw(spec: Spec, label: str, pools: dict[str, Pool]) -> dict[str, list[SourceRow]]:
    """Rows for each side; each evaluates another screen, so that each counts as one in a test."""
    found = sum(len({screen for _, screen in pool.rows}) for pool in pools.values())
    if spec.samples_per_class and found < spec.samples_per_class:
        raise InputError(f"samples_per_class: {too_few(label, found, spec.samples_per_class)}")
    seed = spec.seed if spec.draw_seed is None else spec.draw_seed
    drawn = {
        side: pools[side].draw(needed, Random(f"{seed}/draw/{label}/{side}"), screens_once=side == "eval")
        for side, needed in spec.counts.items()
    }
    for side, needed in spec.counts.items():
        if needed and not drawn[side]:
            raise InputError(f"Class {label!r} has no screen on the {side} side: add source rows.")
    return drawn


def too_few(label: str, screens: int, needed: int) -> str:
    """That a class has too few different screens, in words."""
    return f"class {label!r} has {screens} different screens, {needed} are needed: add source rows, or ask for fewer."


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
        "split": spec.split and spec.split.model_dump(),
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
