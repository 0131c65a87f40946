"""The whole pipeline through the deployed app, beside the same on this machine: `make test-modal`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from datasets_app.formats.digest import folder_digest
from tests.modal_plane.plane import Plane
from workers.models import Pipeline, Run
from workers.services import launch_router_pipeline

pytestmark = pytest.mark.long

Drive = Callable[..., Run]


def through(backend: str, experts: list[str], drive: Drive, settings: Any) -> Pipeline:
    """Generate, preprocess, train and evaluate on the backend."""
    settings.COMPUTE_DEFAULT = backend
    hardly = {"max_steps": 2, "eval_every": 2, "rank": 4, "batch_size": 4, "micro_batch_size": 4}
    name = f"on-{backend}-{uuid.uuid4().hex[:8]}"
    pipeline = launch_router_pipeline(name, adapters=experts[:2], samples_per_class=20, seed=3, train=hardly)
    Run.objects.filter(pipeline=pipeline).update(reuse=False)  # else the second would take the first one's results
    for run in pipeline.steps:
        drive(run, seconds=600)
    assert [run.error for run in pipeline.steps] == [""] * 4
    assert {run.status for run in pipeline.steps} == {"succeeded"}
    return pipeline


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """An evaluation's report without what no two machines have in common."""
    return {name: value for name, value in report.items() if name != "latency_ms"}


@pytest.mark.django_db
def test_modal_gives_the_same_datasets_weights_and_metrics_as_this_machine(
    plane: Plane, modal_app: str, experts: list[str], drive: Drive, settings: Any
) -> None:
    modal = {**settings.COMPUTE["modal"], "POLL": timedelta(seconds=1)}
    settings.COMPUTE = {**settings.COMPUTE, "modal": modal}
    local, remote = (through(backend, experts, drive, settings).steps for backend in ("local", "modal"))
    assert {run.backend for run in remote} == {"modal"}
    for here, there in zip(local, remote, strict=True):
        assert here.attempts.count() == there.attempts.count() == 1
    generated, prepared, trained, evaluated = zip(local, remote, strict=True)
    assert len({folder_digest(Path(run.routing_dataset.path)) for run in generated}) == 1
    assert len({folder_digest(Path(run.prepared_dataset.path)) for run in prepared}) == 1
    assert len({run.adapter_version.digest for run in trained}) == 1
    assert trained[0].summary["best"] == trained[1].summary["best"]
    assert figures(evaluated[0].evaluation.report) == figures(evaluated[1].evaluation.report)
