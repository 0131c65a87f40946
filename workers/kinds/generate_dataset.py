"""Generate a routing dataset from the source datasets of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from adapters.models import Adapter
from adapters.selectors import get_adapter
from datasets_app.errors import InputError
from datasets_app.models import RoutingDataset, SourceDataset
from datasets_app.selectors import get_source
from datasets_app.services import record_routing_dataset
from workers.kinds.base import Params as BaseParams
from workers.kinds.base import Resolved
from workers.kinds.outputs import keep
from workers.models import Run


class Params(BaseParams):
    """`adapters` are the classes; all `negatives` together are the class `none`."""

    adapters: tuple[str, ...] = Field(min_length=1)
    negatives: tuple[str, ...] = ()
    samples_per_class: int = Field(default=200, ge=1, le=1_000_000)
    split: tuple[float, float, float] | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    system: str | None = None
    human: str | None = None


def _source_of(adapter: Adapter) -> SourceDataset:
    if adapter.kind != Adapter.Kind.EXPERT:
        raise InputError(f"Adapter {adapter.name!r} is a {adapter.kind}: only experts are routed to.")
    if adapter.source is None:
        raise InputError(f"Adapter {adapter.name!r} has no source dataset to draw routing examples from.")
    return adapter.source


def check(params: Params) -> None:
    """Every expert and every negative is there, with a source dataset."""
    if len(set(params.adapters)) != len(params.adapters):
        raise InputError("adapters: each may be named once.")
    for name in params.adapters:
        _source_of(get_adapter(name))
    for name in params.negatives:
        get_source(name)


def _sources(params: Params) -> list[SourceDataset]:
    return [_source_of(get_adapter(name)) for name in params.adapters] + [
        get_source(name) for name in params.negatives
    ]


def resolve(params: Params) -> Resolved:
    """The recipe's spec."""
    sources = [{"label": name, "path": _source_of(get_adapter(name)).path} for name in params.adapters]
    sources += [{"label": name, "path": get_source(name).path, "negative": True} for name in params.negatives]
    optional = params.model_dump(include={"split", "system", "human"}, exclude_none=True)
    spec = {
        "sources": sources,
        "samples_per_class": params.samples_per_class,
        "seed": params.seed,
        **optional,
    }
    return Resolved(spec)


def finalize(run: Run, outputs: Path) -> dict[str, Any]:
    """Keep the folder under the dataset's name and record it."""
    params = Params.model_validate(run.params)
    folder = keep(outputs, "datasets", run.name)
    dataset: RoutingDataset = record_routing_dataset(
        run.name,
        folder,
        digest=run.summary["digest"],
        metadata=run.summary["metadata"],
        sources=_sources(params),
    )
    return {"routing_dataset": dataset}
