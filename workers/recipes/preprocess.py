"""Check a dataset row by row and convert it to what training and evaluation read.

The result is three memory-mapped `datasets` folders, `train/`, `val/` and `eval/`, in TRL's prompt/completion form
with `images`, and `preprocess.json`, which says how they are to be shown to the model. A routing dataset becomes
data for a router. An expert's source dataset is split here, by the function that splits it for the router.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from adapters.backbone.spec import TINY_BASE, BaseSpec, fingerprint, pixel_budget
from adapters.base_shape import BaseShape
from adapters.card import AdapterCard
from adapters.validation import validate_card
from datasets_app.formats import routing
from datasets_app.formats.digest import folder_digest
from datasets_app.formats.duplicates import BITS, DEFAULT_DISTANCE
from workers.recipes.content import Content, Example, read_content
from workers.recipes.job import Job, RecipeSpec
from workers.recipes.prepared import PREPROCESS_FILE, Prepared
from workers.recipes.splits import Split, split_rule

STEPS = ("convert",)


class Spec(RecipeSpec):
    """Which dataset is prepared for which base model."""

    dataset: Path = Field(description="folder of a routing dataset, or of an expert's source dataset")
    base: str = Field(str(TINY_BASE), description="base model: a folder or a hub id")
    base_revision: str | None = Field(None, description="commit of a base model from the hub")
    min_pixels: int | None = Field(None, gt=0, description="least pixels of a screenshot; default: the base's")
    max_pixels: int | None = Field(None, gt=0, description="most pixels of a screenshot; default: the base's")
    system: str | None = Field(None, min_length=1, description="system turn to use instead of the dataset's")
    format: str | None = Field(
        None, description="routing, or the format of a source dataset; default: routing if it has all three splits"
    )
    split: Split | None = Field(
        None, description="fractions of train, val and eval of a source dataset; default: as promotion needs them"
    )
    seed: int = Field(0, ge=0, description="split seed of a source dataset; share it with generate_dataset")
    distance: int = Field(
        DEFAULT_DISTANCE, ge=0, le=BITS // 4, description="bits of 1,024 in which near-duplicates may differ"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Spec:
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError("min_pixels is larger than max_pixels")
        return self


def run(spec: Spec, job: Job) -> dict[str, Any]:
    """Write the prepared dataset into `job.out`; return what `preprocess.json` says and the folder's `digest`.

    InputError names file and line of a row that is wrong.
    """
    from adapters.backbone.loading import load_processor
    from workers.recipes.conversion import Converter, write_split

    base = BaseSpec(spec.base, spec.base_revision)
    format = spec.format or (routing.FORMAT if routing.is_routing(spec.dataset) else "llava")
    content = read_content(spec.dataset, format, spec.split, spec.seed, spec.distance)
    card = _card(spec, base, content)
    validate_card(card, base=BaseShape.find(base))
    converter = Converter(load_processor(base), card)
    total = sum(map(len, content.splits.values()))
    for side, examples in content.splits.items():

        def rows(examples: list[Example] = examples) -> Iterator[dict[str, Any]]:
            for example in examples:
                yield converter.row(example)
                job.progress("convert", converter.done, total)

        write_split(rows(), converter.features, job.work / f"{side}.arrow").save_to_disk(str(job.out / side))
        (job.work / f"{side}.arrow").unlink()
    prepared = Prepared(
        card=card,
        none_label=content.none_label,
        counts={side: len(examples) for side, examples in content.splits.items()},
        tokens=converter.tokens(),
        dataset=folder_digest(spec.dataset),
        split_seed=spec.seed if content.kind == "expert" else None,
        split=split_rule(spec.split) if content.kind == "expert" else "",
    )
    (job.out / PREPROCESS_FILE).write_text(prepared.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return prepared.model_dump(mode="json") | {"digest": folder_digest(job.out)}


def _card(spec: Spec, base: BaseSpec, content: Content) -> AdapterCard:
    least, most = pixel_budget(base)
    least = spec.min_pixels or min(least, spec.max_pixels or least)
    return AdapterCard(
        kind=content.kind,
        base=fingerprint(base),
        system=spec.system or content.system,
        human=content.human,
        min_pixels=least,
        max_pixels=spec.max_pixels or max(most, least),
        labels=content.labels,
    )


if __name__ == "__main__":
    from workers.recipes.cli import main

    raise SystemExit(main("preprocess"))
