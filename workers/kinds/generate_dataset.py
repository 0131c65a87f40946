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
    """`adapters` are the classes; all `negatives` together are the class `none`.

    `sources` names, for some of the adapters, another source dataset than the adapter's own to draw from.
    """

    adapters: tuple[str, ...] = Field(min_length=1)
    negatives: tuple[str, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)
    samples_per_class: int = Field(default=200, ge=1, le=1_000_000)
    split: tuple[float, float, float] | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    draw_seed: int | None = Field(default=None, ge=0, lt=2**31)
    held_out_only: bool = False
    system: str | None = None
    human: str | None = None


def _source_of(name: str, params: Params) -> SourceDataset:
    adapter = get_adapter(name)
    if adapter.kind != Adapter.Kind.EXPERT:
        raise InputError(f"Adapter {name!r} is a {adapter.kind}: only experts are routed to.")
    if name in params.sources:
        return get_source(params.sources[name])
    if adapter.source is None:
        raise InputError(f"Adapter {name!r} has no source dataset to draw routing examples from.")
    return adapter.source


def _classes(params: Params) -> list[tuple[str, SourceDataset, bool]]:
    """Label, source and whether it is a negative, for every source that takes part."""
    experts = [(name, _source_of(name, params), False) for name in params.adapters]
    return experts + [(name, get_source(name), True) for name in params.negatives]


def check(params: Params) -> None:
    """Every expert and every negative is there, with a source dataset."""
    if len(set(params.adapters)) != len(params.adapters):
        raise InputError("adapters: each may be named once.")
    strangers = set(params.sources) - set(params.adapters)
    if strangers:
        raise InputError(f"sources: {', '.join(sorted(strangers))} is not among the adapters.")
    _classes(params)


def resolve(run: Run) -> Resolved:
    """The recipe's spec."""
    params = Params.model_validate(run.params)
    sources = [
        {"label": label, "path": source.path, "negative": negative, "format": source.format}
        for label, source, negative in _classes(params)
    ]
    optional = params.model_dump(include={"split", "draw_seed", "held_out_only", "system", "human"}, exclude_none=True)
    spec = {
        "sources": sources,
        "samples_per_class": params.samples_per_class,
        "seed": params.seed,
        **optional,
    }
    return Resolved(spec, digests={source.path: source.digest for _, source, _ in _classes(params)})


def finalize(run: Run, outputs: Path) -> dict[str, Any]:
    """Keep the folder under the dataset's name and record it."""
    params = Params.model_validate(run.params)
    folder = keep(outputs, "datasets", run.name)
    dataset: RoutingDataset = record_routing_dataset(
        run.name,
        folder,
        digest=run.summary["digest"],
        metadata=run.summary["metadata"],
        sources=[source for _, source, _ in _classes(params)],
    )
    return {"routing_dataset": dataset}
