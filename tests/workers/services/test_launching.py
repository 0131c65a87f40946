"""Launching, reusing, cancelling and refusing runs."""

from __future__ import annotations

import pytest
from django.utils import timezone

from datasets_app.errors import InputError
from tests.cast import make_run
from workers.models import Pipeline, Run
from workers.services import advance, cancel, cancel_pipeline, launch, launch_router_pipeline, launching, retry
from workers.states import Status


def test_the_same_name_and_parameters_return_the_run_that_exists(generate: dict[str, object]) -> None:
    first = launch("generate_dataset", generate, name="mine")
    assert launch("generate_dataset", generate, name="mine").pk == first.pk
    assert Run.objects.count() == 1


def test_the_same_name_with_other_parameters_is_refused(generate: dict[str, object]) -> None:
    launch("generate_dataset", generate, name="mine")
    with pytest.raises(InputError, match="'mine' exists"):
        launch("generate_dataset", {**generate, "seed": 4}, name="mine")


def test_runs_without_a_name_are_always_new_ones(generate: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where two processes took the same free name at one moment."""
    names = iter(["routing_x", "routing_x", "routing_x_2", "routing_x_2", "routing_x_3"])
    monkeypatch.setattr(launching, "new_names", lambda kind: names)
    wishes = [generate, generate, {**generate, "seed": 4}]
    runs = [launch("generate_dataset", wish) for wish in wishes]
    assert [run.name for run in runs] == ["routing_x", "routing_x_2", "routing_x_3"]


def test_a_made_up_name_is_one_that_no_run_has_had(
    generate: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    cancel(launch("generate_dataset", generate))
    assert launch("generate_dataset", generate).name == f"routing_{now:%Y%m%d_%H%M%S}_2"


def test_a_cancelled_run_leaves_its_name_to_the_next_try(generate: dict[str, object]) -> None:
    first = launch("generate_dataset", generate, name="mine")
    assert cancel(first).status == Status.CANCELLED
    assert launch("generate_dataset", generate, name="mine").pk != first.pk


def test_a_pipeline_takes_over_no_run_from_outside_it(generate: dict[str, object], experts: list[str]) -> None:
    """It would wait for ever for a step that is not its own."""
    launch("generate_dataset", {**generate, "negatives": []}, name="routing_x")
    with pytest.raises(InputError, match="outside the pipeline 'routing_x': choose another name"):
        launch_router_pipeline("routing_x", adapters=experts, samples_per_class=10, seed=3)
    assert not Pipeline.objects.exists()


def test_a_step_that_is_tried_again_takes_over_no_run_from_outside(
    generate: dict[str, object], experts: list[str]
) -> None:
    pipeline = launch_router_pipeline("routing_x", adapters=experts, samples_per_class=10, seed=3)
    cancel_pipeline(pipeline)
    launch("generate_dataset", {**generate, "negatives": []}, name="routing_x")
    with pytest.raises(InputError, match="outside the pipeline"):
        retry(pipeline.steps[0])
    assert {run.status for run in pipeline.steps} == {Status.CANCELLED}


def test_a_step_without_the_one_before_fails_with_the_reason(db: None) -> None:
    run = make_run(pipeline=Pipeline.objects.create(name="short"), step=1)
    advance(run)
    run.refresh_from_db()
    assert (run.status, run.error) == (Status.FAILED, "The pipeline 'short' has no step before this one.")


def test_cancelling_twice_changes_nothing(generate: dict[str, object]) -> None:
    run = cancel(launch("generate_dataset", generate))
    version = run.version
    assert cancel(run).version == version


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        ("bake", {}, "no kind of run 'bake'"),
        ("generate_dataset", {"adapters": []}, "adapters"),
        ("generate_dataset", {"adapters": ["nobody"]}, "no adapter 'nobody'"),
        ("generate_dataset", {"adapters": ["calendar"], "samples_per_class": 0}, "samples_per_class"),
        ("generate_dataset", {"adapters": ["calendar"], "sample_count": 3}, "sample_count"),
        ("generate_dataset", {"adapters": ["calendar"], "negatives": ["nothing"]}, "no source dataset 'nothing'"),
        ("preprocess", {"dataset": "nothing"}, "'nothing'"),
        ("train", {"dataset": "nothing"}, "'nothing'"),
        ("train", {"dataset": "calendar", "adapter": "calendar", "config": {"data": "/"}}, "data"),
        ("evaluate", {"dataset": "calendar"}, "either a train run or an adapter"),
        ("evaluate", {"dataset": "calendar", "run": "nothing"}, "no train run 'nothing'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_queued(
    experts: list[str], kind: str, params: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        launch(kind, params)
    assert not Run.objects.exists()


@pytest.mark.parametrize("name", ["", "../x", "a b", "x\n", "Ünï", "x" * 65, "a..b", "-x"])
def test_a_name_that_is_no_name_is_refused(generate: dict[str, object], name: str) -> None:
    if name == "":
        assert launch("generate_dataset", generate, name=name).name.startswith("routing_")
        return
    with pytest.raises(InputError, match="run name"):
        launch("generate_dataset", generate, name=name)
