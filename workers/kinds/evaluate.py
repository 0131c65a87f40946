"""Evaluate a version on held-out samples, alone or within its stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from pydantic import Field

from adapters.models import Adapter, AdapterVersion, Stack
from adapters.selectors import champion, get_adapter
from adapters.services import build_stack, configured_base, record_evaluation, store
from datasets_app.errors import InputError
from datasets_app.models import PreparedDataset
from workers.kinds.base import Params as BaseParams
from workers.kinds.base import Resolved
from workers.kinds.outputs import keep
from workers.models import Run
from workers.selectors import find_dataset, prepared_for, trained_on


class Params(BaseParams):
    """The version that the train run `run` made, the current one of `adapter`, or the router that is `serving`.

    `stack` adds the experts: those that serve with the serving router, else the current ones.
    """

    run: str | None = None
    adapter: str | None = None
    serving: bool = False
    dataset: str
    stack: bool = False
    max_samples: int | None = Field(default=None, ge=1)
    note: str = ""


def check(params: Params) -> None:
    """One subject is named, and the dataset is there."""
    if (params.run is not None) + (params.adapter is not None) + params.serving != 1:
        raise InputError("evaluate: name either a train run or an adapter, or ask for the serving router.")
    find_dataset(params.dataset)
    if params.serving:
        _serving()
    elif params.adapter is not None:
        get_adapter(params.adapter)
    elif not Run.objects.filter(name=params.run, kind=Run.Kind.TRAIN).exists():
        raise InputError(f"There is no train run {params.run!r}.")


def _serving() -> Stack:
    stack = champion()
    if stack is None:
        raise InputError("No router is live yet: there is none to evaluate.")
    return stack


def _version(params: Params) -> AdapterVersion:
    if params.serving:
        return _serving().router
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


def resolve(run: Run) -> Resolved:
    """The recipe's spec, and which version and stack it is about."""
    params = Params.model_validate(run.params)
    version, base, files = _version(params), configured_base(), store()
    prepared = prepared_for(run, base.fingerprint, version)
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
    digests = {prepared.path: prepared.digest, base.path: base.fingerprint}

    def folder(version: AdapterVersion) -> str:
        path = str(files.path(version.digest))
        digests[path] = version.digest
        return path

    learnt = trained_on(version)
    spec["trained_on"] = [row.path for row in learnt]
    digests |= {row.path: row.digest for row in learnt}
    if version.adapter.kind == Adapter.Kind.EXPERT:
        spec["expert"] = folder(version)
        return Resolved(spec, inputs, digests, owner=str(version))
    spec["router"] = folder(version)
    if params.stack:
        stack = _serving() if params.serving else build_stack(version)
        inputs["stack"] = stack.pk
        spec["experts"] = {expert.adapter.name: folder(expert) for expert in stack.experts.select_related("adapter")}
    return Resolved(spec, inputs, digests, owner=str(version))


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
