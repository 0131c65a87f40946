"""Evaluate a version on held-out samples, alone or within its stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from pydantic import Field

from adapters.models import Adapter, AdapterVersion, Stack
from adapters.selectors import get_adapter
from adapters.services import build_stack, configured_base, record_evaluation, store
from datasets_app.errors import InputError
from datasets_app.models import PreparedDataset
from datasets_app.selectors import get_dataset, get_prepared
from workers.kinds.base import Params as BaseParams
from workers.kinds.base import Resolved
from workers.kinds.outputs import keep
from workers.models import Run


class Params(BaseParams):
    """The version that the train run `run` made, or the current one of `adapter`; `stack` adds the experts."""

    run: str | None = None
    adapter: str | None = None
    dataset: str
    stack: bool = False
    max_samples: int | None = Field(default=None, ge=1)
    note: str = ""


def check(params: Params) -> None:
    """One subject is named, and the dataset is there."""
    if (params.run is None) == (params.adapter is None):
        raise InputError("evaluate: name either a train run or an adapter.")
    get_dataset(params.dataset)
    if params.adapter is not None:
        get_adapter(params.adapter)
    elif not Run.objects.filter(name=params.run, kind=Run.Kind.TRAIN).exists():
        raise InputError(f"There is no train run {params.run!r}.")


def _version(params: Params) -> AdapterVersion:
    if params.adapter is not None:
        version = get_adapter(params.adapter).current
        if version is None:
            raise InputError(f"Adapter {params.adapter!r} has no version yet.")
        return version
    run = (
        Run.objects.select_related("adapter_version__adapter__base")
        .filter(name=params.run, kind=Run.Kind.TRAIN, adapter_version__isnull=False)
        .first()
    )
    if run is None or run.adapter_version is None:
        raise InputError(f"Train run {params.run!r} has not made an adapter.")
    return run.adapter_version


def resolve(params: Params) -> Resolved:
    """The recipe's spec, and which version and stack it is about."""
    version, base, files = _version(params), configured_base(), store()
    prepared = get_prepared(get_dataset(params.dataset), base.fingerprint)
    spec: dict[str, Any] = {
        "data": prepared.path,
        "base": base.path,
        "base_revision": base.revision or None,
        "device": settings.BASE_MODEL["device"],
        "dtype": settings.BASE_MODEL["dtype"],
        "note": params.note,
        **params.model_dump(include={"max_samples"}, exclude_none=True),
    }
    inputs = {"adapter_version": version.pk, "prepared_dataset": prepared.pk}
    if version.adapter.kind == Adapter.Kind.EXPERT:
        spec["expert"] = str(files.path(version.digest))
        return Resolved(spec, inputs)
    spec["router"] = str(files.path(version.digest))
    if params.stack:
        stack = build_stack(version)
        inputs["stack"] = stack.pk
        spec["experts"] = {
            expert.adapter.name: str(files.path(expert.digest)) for expert in stack.experts.select_related("adapter")
        }
    return Resolved(spec, inputs)


def finalize(run: Run, outputs: Path) -> dict[str, Any]:
    """Keep the report and record its figures."""
    evaluation = record_evaluation(
        AdapterVersion.objects.get(pk=run.inputs["adapter_version"]),
        stack=Stack.objects.filter(pk=run.inputs.get("stack")).first(),
        dataset=PreparedDataset.objects.get(pk=run.inputs["prepared_dataset"]).dataset,
        report=run.summary,
        folder=keep(outputs, "evaluations", f"{run.name}-{run.pk}"),
    )
    return {"evaluation": evaluation}
