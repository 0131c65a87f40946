"""Validate a dataset and convert it to what training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from adapters.backbone.spec import tile_pixels
from adapters.services import base_spec, configured_base
from adapters.validation import MAX_PIXELS
from datasets_app.errors import InputError
from datasets_app.services import record_prepared
from workers.kinds.base import Params as BaseParams
from workers.kinds.base import Resolved
from workers.kinds.outputs import keep
from workers.models import Run
from workers.selectors import find_dataset


class Params(BaseParams):
    """`dataset` names a routing dataset (or the run that made it), or an expert's source dataset."""

    dataset: str
    max_pixels: int | None = Field(default=None, gt=0, le=MAX_PIXELS)
    split: tuple[float, float, float] | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**31)


def check(params: Params) -> None:
    """The dataset is there, and the base can keep to the pixels."""
    check_pixels(params.max_pixels)
    find_dataset(params.dataset)


def check_pixels(most: int | None) -> None:
    """InputError if the base's processor cannot keep to so many pixels of a screenshot."""
    if most is None:
        return
    tile = tile_pixels(base_spec())
    if most <= 0 or most % tile:
        raise InputError(f"max_pixels is {most}: the base's processor needs a multiple of {tile}.")


def resolve(run: Run) -> Resolved:
    """The recipe's spec."""
    params = Params.model_validate(run.params)
    base = configured_base()
    optional = params.model_dump(include={"max_pixels", "seed"}, exclude_none=True)
    dataset = find_dataset(params.dataset)
    spec = {
        "dataset": dataset.path,
        "format": dataset.format,
        "base": base.path,
        "base_revision": base.revision or None,
        "split": params.split,  # also where none is given: an equal job of before the rule split otherwise
        **optional,
    }
    digests = {dataset.path: dataset.digest, base.path: base.fingerprint}
    return Resolved(spec, digests=digests, owner=str(dataset))


def finalize(run: Run, outputs: Path) -> dict[str, Any]:
    """Keep the folder and record it."""
    params = Params.model_validate(run.params)
    folder = keep(outputs, "prepared", f"{params.dataset}-{run.pk}")
    prepared = record_prepared(
        find_dataset(params.dataset),
        folder,
        base=configured_base().fingerprint,
        digest=run.summary["digest"],
        stats=run.summary,
    )
    return {"prepared_dataset": prepared}
