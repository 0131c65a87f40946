"""The whole pipeline through the deployed app, beside the same on this machine: `make test-modal`."""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.backbone.spec import BaseSpec
from adapters.models import Adapter
from adapters.services import add_version
from controlplane.engine import command
from controlplane.processes import free_port, wait_until_up
from datasets_app.formats.digest import folder_digest
from inference.services import get_engine, promote
from tests.cast import make_client, png
from tests.modal_plane.plane import Plane
from workers.models import Pipeline, Run
from workers.services import launch_router_pipeline
from workers.smoke import untrained_adapter

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
def test_modal_gives_the_same_datasets_weights_and_metrics_as_this_machine_and_serves_them(
    plane: Plane, modal_app: str, experts: list[str], drive: Drive, settings: Any, tmp_path: Path
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
    goes_live(remote[-1], experts[:2], tmp_path, settings)


def goes_live(evaluated: Run, experts: list[str], folder: Path, settings: Any) -> None:
    """The router that was trained there serves there: one request through REST, the engine's process and Modal."""
    for name in experts:  # what they say is not the point
        add_version(Adapter.objects.get(name=name), untrained_adapter(folder / name, BaseSpec()))
    with engine_process(settings):
        get_engine.cache_clear()
        try:
            stack = promote(evaluated.evaluation.version, force_reason="It has hardly been trained.")
            body = {"image": base64.b64encode(png()).decode(), "prompt": "Open the marked day.", "max_tokens": 4}
            answer = make_client().post("/api/v1/infer/", body, format="json")
        finally:
            get_engine().close()
            get_engine.cache_clear()
    assert answer.status_code == 200, answer.content
    assert answer.data["stack"] == stack.digest
    assert answer.data["router"] == evaluated.evaluation.version.digest
    assert answer.data["adapter"] in experts
    assert sum(answer.data["probabilities"].values()) == pytest.approx(1)


@contextmanager
def engine_process(settings: Any) -> Iterator[None]:
    """The engine's process of an installation that chose Modal."""
    url = f"http://127.0.0.1:{free_port()}"
    settings.ENGINE = {**settings.ENGINES["modal"], "OPTIONS": {"url": url, "token": "token"}}
    settings.ENGINE_ON_MODAL = True
    process = subprocess.Popen(command(), env={**os.environ, "SWITCHYARD_ENGINE_TOKEN": "token"})
    try:
        wait_until_up(f"{url}/health", seconds=90, log=Path("stderr"))
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0
