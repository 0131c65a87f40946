"""Adding experts with real jobs, from the files to the verdict; what is trained here is hardly trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command

from adapters.models import Promotion
from adapters.selectors import champion, get_adapter
from adapters.services import register_adapter, store
from datasets_app.services import register_source
from inference.services import promote
from tests.workers.services.conftest import RecordingEngine
from workers.models import Pipeline, Run
from workers.services import advance_all, cancel_pipeline, launch_expert_pipeline, reevaluate, retrain_router
from workers.states import Status

Drive = Callable[..., Run]
HARDLY = {"max_steps": 4, "eval_every": 4}

pytestmark = [pytest.mark.django_db, pytest.mark.long]


@pytest.fixture
def files(samples: dict[str, Path], drive: Drive, tmp_path: Path) -> Path:
    """Adapter files of an expert, which will do for others."""
    register_adapter("calendar", source=register_source("calendar", samples["calendar"]))
    pipeline = launch_expert_pipeline("calendar", train=HARDLY, name="calendar")
    run = drive(pipeline.steps[1], seconds=300)
    assert run.adapter_version is not None, run.error
    cancel_pipeline(pipeline)
    return Path(shutil.copytree(store().path(run.adapter_version.digest), tmp_path / "files"))


def finished(drive: Drive, name: str) -> Pipeline:
    pipeline = Pipeline.objects.get(name=name)
    for run in pipeline.steps:
        assert drive(run, seconds=300).status == Status.SUCCEEDED, run.error
    advance_all()
    pipeline.refresh_from_db()
    return pipeline


def test_two_experts_are_added_one_after_the_other(
    files: Path, samples: dict[str, Path], drive: Drive, engine: RecordingEngine
) -> None:
    def add(name: str) -> Pipeline:
        words = ["--source", str(samples[name]), "--adapter", str(files), "--pipeline", f"add-{name}", "--detach"]
        settled = [
            "--margin",
            "0.7",
            "--floor",
            "0.3",
            "--samples-per-class",
            "30",
            "--train",
            '{"max_steps": 12, "eval_every": 6}',
        ]
        call_command("add_expert", name, *words, *settled)
        return finished(drive, f"add-{name}")

    first = add("claim-window")
    assert (first.outcome, first.promoted) == ("succeeded", champion())
    assert ("It is live." if first.promoted else "No router serves.") in first.verdict
    made = get_adapter("router").current
    assert made is not None
    live = first.promoted or promote(made, force_reason="It has hardly been trained.")
    second = add("provider-select")
    assert second.outcome == "succeeded"
    assert "On add-provider-select" in second.verdict
    assert (second.promoted is not None) == ("It is live." in second.verdict)
    assert champion() == (second.promoted or live)
    assert Promotion.objects.count() == 1 + (second.promoted is not None)

    again = retrain_router(pipeline="again")
    if second.promoted is not None:
        again = finished(drive, "again")
        assert all(run.reused_from for run in again.steps)
        assert "Nothing new" in again.verdict
    else:
        cancel_pipeline(again)

    reevaluate(pipeline="night")
    night = finished(drive, "night")
    assert "no significant fall" in night.verdict
