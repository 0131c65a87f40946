"""Fetch an adapter or a source dataset from a volume of Modal's, and register it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from django.db import transaction

from adapters.models import Adapter
from adapters.services import check_adapter, check_card, configured_base, import_adapter, register_adapter
from datasets_app.errors import InputError, naming
from datasets_app.formats import SOURCE_FORMATS, SourceFacts
from datasets_app.names import check_name
from datasets_app.places import Place
from datasets_app.selectors import get_source
from datasets_app.services import record_source
from workers.compute import get_compute
from workers.kinds.base import Params as BaseParams
from workers.kinds.base import Resolved
from workers.kinds.outputs import keep
from workers.models import Run


class Params(BaseParams):
    """`place` is `volume:path`, `name` what the adapter or source dataset is registered as.

    `kind`, `source` and `card`, fields of the card of files that bring none, are an adapter's. `expert` names, for a
    source dataset, the expert that it is the examples of.
    """

    what: Literal["adapter", "source"]
    name: str
    place: str
    kind: Literal["expert", "router"] = "expert"
    source: str | None = None
    card: dict[str, Any] | None = None
    expert: str | None = None
    format: str = "llava"


def check(params: Params) -> None:
    """The place is well-formed and there is an account to read it; what lies there is for the run to see."""
    with naming("place"):
        check_place(params.place)
    if params.what == "source":
        check_name(params.name, "source dataset name")
        if params.format not in SOURCE_FORMATS:
            raise InputError(f"format: {params.format!r} is none of {', '.join(sorted(SOURCE_FORMATS))}.")
        if params.expert is not None:
            check_adapter(params.expert, Adapter.Kind.EXPERT)
    else:
        check_adapter(params.name, params.kind)
        if params.card is not None:
            check_card(params.kind, params.card)
        if params.source is not None:
            get_source(params.source)


def check_place(place: str) -> None:
    """InputError unless it is well-formed, and there is an account to read it with."""
    Place.parse(place)
    if missing := get_compute("modal").missing():
        raise InputError(f"{place[:120]!r} lies on a volume. {missing}")


def resolve(run: Run) -> Resolved:
    """The recipe's spec."""
    params = Params.model_validate(run.params)
    base = configured_base()
    where = {"what": params.what, "place": params.place, "environment": _environment()}
    if params.what == "source":
        return Resolved({**where, "format": params.format}, owner=params.name)
    where |= {"base": base.path, "base_fingerprint": base.fingerprint}
    return Resolved({**where, "has_card": params.card is not None}, owner=params.name)


def finalize(run: Run, outputs: Path) -> dict[str, Any]:
    """Put the adapter into the store, or keep the source dataset's folder; and register it."""
    params = Params.model_validate(run.params)
    if params.what == "adapter":
        source = get_source(params.source) if params.source else None
        try:
            version = import_adapter(params.name, outputs, kind=params.kind, source=source, card=params.card)
            return {"adapter_version": version}
        except InputError as error:
            raise InputError(f"{run.summary['place']}: {error}") from error
    folder = keep(outputs, "sources", f"{params.name}-{run.pk}")
    facts = SourceFacts(**{field.name: run.summary.get(field.name) for field in fields(SourceFacts)})
    origin = str(Place.parse(params.place))
    with transaction.atomic():
        row = record_source(params.name, folder, format=params.format, facts=facts, origin=origin)
        if params.expert is not None:
            register_adapter(params.expert, source=row)
    return {}


def _environment() -> str | None:
    environment: str | None = settings.COMPUTE.get("modal", {}).get("OPTIONS", {}).get("environment")
    return environment
