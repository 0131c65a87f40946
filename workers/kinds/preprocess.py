"""Validate a dataset and convert it to what training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from adapters.services import configured_base
from datasets_app.services import record_prepared
from workers.kinds.base import Params as BaseParams
from workers.kinds.base import Resolved
from workers.kinds.outputs import keep
from workers.models import Run
from workers.selectors import find_dataset


class Params(BaseParams):
    """`dataset` names a routing dataset (or the run that made it), or an expert's source dataset."""

    dataset: str
    max_pixels: int | None = None
    split: tuple[float, float, float] | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**31)


def check(params: Params) -> None:
    """The dataset is there."""
    find_dataset(params.dataset)


def resolve(run: Run) -> Resolved:
    """The recipe's spec."""
    params = Params.model_validate(run.params)
    base = configured_base()
    optional = params.model_dump(include={"max_pixels", "split", "seed"}, exclude_none=True)
    dataset = find_dataset(params.dataset)
    spec = {
        "dataset": dataset.path,
        "base": base.path,
        "base_revision": base.revision or None,
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
