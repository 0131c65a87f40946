"""Generate a routing dataset from the source datasets of experts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from adapters.models import Adapter
from adapters.models.adapter import NONE_LABEL
from adapters.selectors import get_adapter
from datasets_app.errors import InputError, naming
from datasets_app.models import RoutingDataset, SourceDataset
from datasets_app.selectors import get_source
from datasets_app.services import record_routing_dataset
from workers.kinds.base import Params as BaseParams
from workers.kinds.base import Resolved
from workers.kinds.outputs import keep
from workers.models import Run
from workers.recipes.generate_dataset import Spec, too_few
from workers.recipes.sizing import MOST_SAMPLES


class Params(BaseParams):
    """`adapters` are the classes; all `negatives` together are the class `none`.

    `sources` names, for some of the adapters, another source dataset than the adapter's own to draw from. Without
    `samples_per_class` and `split` the promotion rule says how many are drawn (`workers.recipes.sizing`).
    """

    adapters: tuple[str, ...] = Field(min_length=1)
    negatives: tuple[str, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)
    samples_per_class: int | None = Field(default=None, ge=1, le=MOST_SAMPLES)
    split: tuple[float, float, float] | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    draw_seed: int | None = Field(default=None, ge=0, lt=2**31)
    held_out_only: bool = False
    system: str | None = None
    human: str | None = None


Coming = Mapping[str, SourceDataset]
"""Source datasets, by adapter, of adapters that are not registered yet."""


def _source_of(name: str, params: Params, coming: Coming) -> SourceDataset:
    if name in coming:
        return coming[name]
    adapter = get_adapter(name)
    if adapter.kind != Adapter.Kind.EXPERT:
        raise InputError(f"Adapter {name!r} is a {adapter.kind}: only experts are routed to.")
    if name in params.sources:
        return get_source(params.sources[name])
    if adapter.source is None:
        raise InputError(f"Adapter {name!r} has no source dataset to draw routing examples from.")
    return adapter.source


def classes(params: Params, coming: Coming) -> list[tuple[str, SourceDataset]]:
    """Label and source, for every source that takes part."""
    with naming("adapters"):
        experts = [(name, _source_of(name, params, coming)) for name in params.adapters]
    with naming("negatives"):
        return experts + [(NONE_LABEL, get_source(name)) for name in params.negatives]


def check(params: Params, coming: Coming | None = None) -> None:
    """As `check_classes`, and every class has as many different screens as are asked for."""
    found, spec = check_classes(params, coming)
    check_enough(found, params.samples_per_class or spec.fewest)


def check_classes(params: Params, coming: Coming | None = None) -> tuple[list[tuple[str, SourceDataset]], Spec]:
    """Everything is there and can be told apart, and the recipe takes it; what is in the sources is not asked."""
    if len(set(params.adapters)) != len(params.adapters):
        raise InputError("adapters: each may be named once.")
    strangers = set(params.sources) - set(params.adapters)
    if strangers:
        raise InputError(f"sources: {', '.join(sorted(strangers))} is not among the adapters.")
    found = classes(params, coming or {})
    if len(params.adapters) + bool(params.negatives) < 2:
        raise InputError("adapters: a router needs two classes; name another expert, or negatives.")
    _check_apart(found)
    try:
        spec = Spec.model_validate(_spec(params, found))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}.") from error
    return found, spec


def check_enough(found: list[tuple[str, SourceDataset]], needed: int, field: str = "samples_per_class") -> None:
    """InputError if a class is known to have fewer different screens; `field` is where so many were asked for."""
    for label, screens in screens_of(found).items():
        if screens is not None and screens < needed:
            raise InputError(f"{field}: {too_few(label, screens, needed)}")


def _check_apart(found: list[tuple[str, SourceDataset]]) -> None:
    taken: dict[Path, str] = {}
    for label, source in found:
        path = Path(source.path).resolve()
        if path in taken:
            raise InputError(f"sources: {label!r} and {taken[path]!r} have the same screens, those of {source.name!r}.")
        taken[path] = label


def screens_of(found: list[tuple[str, SourceDataset]]) -> dict[str, int | None]:
    """The different screens of each class, None where they are not counted."""
    counted: dict[str, int | None] = {}
    for label, source in found:
        before = counted.get(label, 0)
        counted[label] = None if before is None or source.screens is None else before + source.screens
    return counted


def _spec(params: Params, found: list[tuple[str, SourceDataset]]) -> dict[str, Any]:
    sources = [
        {"label": label, "path": source.path, "format": source.format, "negative": label == NONE_LABEL}
        for label, source in found
    ]
    optional = params.model_dump(include={"draw_seed", "held_out_only", "system", "human"}, exclude_none=True)
    sized = params.model_dump(include={"samples_per_class", "split", "seed"})
    return {"sources": sources, **sized, **optional}


def resolve(run: Run) -> Resolved:
    """The recipe's spec."""
    params = Params.model_validate(run.params)
    found = classes(params, {})
    return Resolved(_spec(params, found), digests={source.path: source.digest for _, source in found})


def finalize(run: Run, outputs: Path) -> dict[str, Any]:
    """Keep the folder under the dataset's name and record it."""
    params = Params.model_validate(run.params)
    folder = keep(outputs, "datasets", run.name)
    dataset: RoutingDataset = record_routing_dataset(
        run.name,
        folder,
        digest=run.summary["digest"],
        metadata=run.summary["metadata"],
        sources=[source for _, source in classes(params, {})],
    )
    return {"routing_dataset": dataset}
