"""Validate a dataset and convert it to what training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters.services import configured_base
from datasets_app.selectors import get_dataset
from datasets_app.services import record_prepared
from workers.kinds.base import Params as BaseParams
from workers.kinds.base import Resolved
from workers.kinds.outputs import keep
from workers.models import Run


class Params(BaseParams):
    """`dataset` names a routing dataset, or an expert's source dataset."""

    dataset: str
    max_pixels: int | None = None
    split: tuple[float, float, float] | None = None


def check(params: Params) -> None:
    """The dataset is there."""
    get_dataset(params.dataset)


def resolve(params: Params) -> Resolved:
    """The recipe's spec."""
    base = configured_base()
    optional = params.model_dump(include={"max_pixels", "split"}, exclude_none=True)
    spec = {
        "dataset": get_dataset(params.dataset).path,
        "base": base.path,
        "base_revision": base.revision or None,
        **optional,
    }
    return Resolved(spec)


def finalize(run: Run, outputs: Path) -> dict[str, Any]:
    """Keep the folder and record it."""
    params = Params.model_validate(run.params)
    folder = keep(outputs, "prepared", f"{params.dataset}-{run.pk}")
    prepared = record_prepared(
        get_dataset(params.dataset),
        folder,
        base=configured_base().fingerprint,
        digest=run.summary["digest"],
        stats=run.summary,
    )
    return {"prepared_dataset": prepared}
