"""Train an adapter, router or expert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from pydantic import Field, ValidationError

from adapters.models import Adapter
from adapters.selectors import get_adapter
from adapters.services import configured_base, import_adapter
from datasets_app.errors import InputError
from datasets_app.models import RoutingDataset
from workers.kinds.base import Params as BaseParams
from workers.kinds.base import Resolved
from workers.models import Run
from workers.recipes.training.spec import Spec
from workers.selectors import find_dataset, prepared_for


class Params(BaseParams):
    """`config` holds the recipe's own fields (learning_rate, max_steps, rank, activated, …)."""

    dataset: str
    adapter: str = "router"
    config: dict[str, Any] = Field(default_factory=dict)


FROM_THE_PLATFORM = frozenset({"data", "base", "base_revision", "device", "dtype"})


def check_config(config: dict[str, Any], field: str = "config") -> None:
    """Refuse what the recipe would refuse; `field` is where the fields were given."""
    if taken := sorted(FROM_THE_PLATFORM & set(config)):
        raise InputError(f"{field}: {', '.join(taken)} come from the platform's settings.")
    known = set(Spec.model_fields) - FROM_THE_PLATFORM
    if unknown := sorted(set(config) - known):
        raise InputError(f"{field}: training has no field {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    try:
        Spec.model_validate({"data": Path(), **config}, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([field, *map(str, first["loc"])])
        raise InputError(f"{place}: {first['msg'].removeprefix('Value error, ')}.") from error


def check(params: Params) -> None:
    """The dataset is there, and is of the adapter's kind: routers learn from routing datasets, experts from sources."""
    check_config(params.config)
    is_routing = isinstance(find_dataset(params.dataset), RoutingDataset)
    if not is_routing:
        adapter = get_adapter(params.adapter)
        if adapter.kind == Adapter.Kind.ROUTER:
            raise InputError(f"dataset: {params.dataset!r} is a source dataset; a router needs a routing dataset.")
    elif Adapter.objects.filter(name=params.adapter, kind=Adapter.Kind.EXPERT).exists():
        raise InputError(f"adapter: {params.adapter!r} is an expert; a routing dataset trains a router.")


def resolve(run: Run) -> Resolved:
    """The recipe's spec."""
    params = Params.model_validate(run.params)
    base = configured_base()
    prepared = prepared_for(run, base.fingerprint)
    spec = {
        **params.config,
        "data": prepared.path,
        "base": base.path,
        "base_revision": base.revision or None,
        "device": settings.BASE_MODEL["device"],
        "dtype": settings.BASE_MODEL["dtype"],
    }
    digests = {prepared.path: prepared.digest, base.path: base.fingerprint}
    return Resolved(spec, {"prepared_dataset": prepared.pk}, digests, owner=params.adapter)


def finalize(run: Run, outputs: Path) -> dict[str, Any]:
    """Put the adapter into the store as a new version."""
    params = Params.model_validate(run.params)
    is_routing = isinstance(find_dataset(params.dataset), RoutingDataset)
    kind = Adapter.Kind.ROUTER if is_routing else Adapter.Kind.EXPERT
    return {"adapter_version": import_adapter(params.adapter, outputs, kind=kind)}
