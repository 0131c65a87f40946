"""The commands that launch, watch and cancel runs, and `promote`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from tests.cast import (
    EXPERTS,
    make_champion,
    make_client,
    make_evaluation,
    make_experts,
    make_router,
    make_routing_dataset,
    make_run,
    make_version,
)
from workers.management.commands.train import assignment
from workers.models import Pipeline, Run
from workers.services import launch_router_pipeline
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let every run that is waited for end as told."""

    def told(status: Status, **fields: Any) -> None:
        def watch(runs: list[Run]) -> None:
            for run in runs:
                Run.objects.filter(pk=run.pk).update(status=status, **fields)
                run.refresh_from_db()

        monkeypatch.setattr("workers.management.following.watch", watch)

    return told


def test_generate_dataset_takes_every_expert_with_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    """Unless told which; --detach returns at once."""
    make_experts()
    call_command("generate_dataset", "--name", "routing_1", "--detach")
    run = Run.objects.get()
    assert run.params["adapters"] == ["calendar", "claim-window"]
    assert capsys.readouterr().out == "routing_1: queued\n"


def test_a_run_is_waited_for(end: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """Until it has succeeded; the same again reuses it."""
    dataset = make_routing_dataset()
    end(Status.SUCCEEDED)
    for _ in range(2):
        call_command("preprocess", "--dataset-name", dataset.name, "--run-name", "prep")
    assert capsys.readouterr().out == "prep: succeeded\nprep: reused\n"


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_a_failed_run_is_exit_code_1(end: Callable[..., None], status: Status) -> None:
    """With the run's own words."""
    dataset = make_routing_dataset()
    end(status, error="Out of memory.")
    with pytest.raises(CommandError, match=f"'prep' {status}: Out of memory") as caught:
        call_command("preprocess", "--dataset-name", dataset.name, "--run-name", "prep")
    assert caught.value.returncode == 1


def test_interrupting_leaves_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says how to end it."""

    def watch(runs: list[Run]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workers.management.following.watch", watch)
    dataset = make_routing_dataset()
    with pytest.raises(CommandError, match="`cancel prep` ends it") as caught:
        call_command("preprocess", "--dataset-name", dataset.name, "--run-name", "prep")
    assert caught.value.returncode == 130
    assert Run.objects.get().status == Status.QUEUED


def test_train_hands_the_recipe_its_fields() -> None:
    """The named ones and any other."""
    dataset = make_routing_dataset()
    options = ["--max-steps", "5", "--learning-rate", "1e-3", "--set", "schedule=linear", "--set", "warmup_steps=2"]
    call_command("train", "--dataset-name", dataset.name, "--run-name", "router-1", "--detach", *options)
    run = Run.objects.get()
    assert (run.name, run.params["adapter"]) == ("router-1", "router")
    expected = {"max_steps": 5, "learning_rate": 1e-3, "schedule": "linear", "warmup_steps": 2}
    assert expected.items() <= run.params["config"].items()
    assert "activated" not in run.params["config"]
    call_command("train", "--dataset-name", dataset.name, "--run-name", "router-2", "--detach", "--activated")
    assert Run.objects.get(name="router-2").params["config"] == {"activated": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a=1", 1), ("a=1e-3", 1e-3), ("a=true", True), ("a=text", "text"), ("a=b=c", "b=c"), ("a=", "")],
)
def test_assignments(text: str, expected: object) -> None:
    """JSON, or else text."""
    assert assignment(text) == ("a", expected)


@pytest.mark.parametrize(
    "arguments",
    [
        ("preprocess", "--dataset-name", "nobody"),
        ("train", "--dataset-name", "nobody"),
        ("train", "--dataset-name", "routing_20260101_120000", "--set", "nonsense"),
        ("train", "--dataset-name", "routing_20260101_120000", "--set", "data=/etc"),
        ("generate_dataset", "--adapters", "nobody"),
        ("generate_dataset", "--samples-per-class", "0"),
        ("evaluate", "--run-name", "nobody", "--dataset-name", "routing_20260101_120000"),
        ("stacked_inference", "--routing-run", "nobody", "--routing-dataset", "routing_20260101_120000"),
        ("preprocess", "--dataset-name", "routing_20260101_120000", "--backend", "nowhere"),
        ("preprocess", "--dataset-name", "routing_20260101_120000", "--max-pixels", "1000"),
        ("promote", "nobody"),
        ("cancel", "nobody"),
        ("retry", "nobody"),
        ("add_expert", "x", "--source", "/nowhere", "--backend", "nowhere"),
    ],
)
def test_wrong_input_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    """And launches nothing."""
    make_routing_dataset()
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    assert caught.value.returncode == 2
    assert not Run.objects.exists()


def test_stacked_inference_shows_each_sample(end: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """And the shares with their intervals."""
    dataset = make_routing_dataset()
    router = make_router()
    make_run("router-1", Status.SUCCEEDED, kind=Run.Kind.TRAIN, adapter_version=router)
    evaluation = make_evaluation(router)
    figure = {"n": 2, "value": 0.5, "ci_low": 0.09, "ci_high": 0.91}
    evaluation.report = {
        "routing": {"accuracy": figure},
        "end_to_end": {"exact": figure},
        "samples": [
            {"label": "calendar", "routed": "calendar", "correct": True, "end_to_end": {"exact": True}},
            {"label": "calendar", "routed": "claim-window", "correct": False, "probability": 0.6},
        ],
    }
    evaluation.save()
    end(Status.SUCCEEDED, evaluation=evaluation)
    call_command("stacked_inference", routing_run="router-1", routing_dataset=dataset.name)
    out = capsys.readouterr().out
    assert "calendar → calendar   exact" in out
    assert "calendar ✗ claim-window   60.0%  no answer" in out
    assert "50.0% of 2 (95% interval 9.0% to 91.0%)" in out


def test_promote_finds_the_version_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the current one of a router."""
    from workers.management.commands.promote import find_version

    make_experts()
    first = make_router()
    second = make_version(first.adapter)
    make_run("router-1", Status.SUCCEEDED, kind=Run.Kind.TRAIN, adapter_version=first)
    assert find_version("router-1") == first
    assert find_version("router") == second


def test_cancel_ends_the_newest_run_of_that_name(capsys: pytest.CaptureFixture[str]) -> None:
    """And says what became of it."""
    make_run("prep", Status.FAILED)
    make_run("prep")
    call_command("cancel", "prep")
    assert capsys.readouterr().out == "prep: cancelled\n"


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
def test_cancel_says_that_a_run_was_over(capsys: pytest.CaptureFixture[str], status: Status) -> None:
    make_run("prep", status)
    call_command("cancel", "prep")
    assert capsys.readouterr().out == f"prep: It is over ({status.value}): nothing was cancelled.\n"


def test_what_is_no_error_is_not_red(capsys: pytest.CaptureFixture[str]) -> None:
    make_experts()
    call_command("generate_dataset", "--name", "routing_1", "--detach", force_color=True)
    shown = capsys.readouterr()
    assert shown.err.startswith("Expected on 'local': ")
    assert "\x1b" not in shown.err + shown.out


def test_cancel_ends_a_pipeline_rather_than_its_run_of_that_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Of one that is over, what was called so later."""
    make_experts()
    pipeline = launch_router_pipeline("first", adapters=EXPERTS)
    call_command("cancel", "first")
    assert capsys.readouterr().out == "first: cancelled (asked to end)\n"
    assert {run.status for run in pipeline.steps} == {Status.CANCELLED}
    Pipeline.objects.update(outcome=Status.CANCELLED)
    later = make_run("first")
    call_command("cancel", "first")
    later.refresh_from_db()
    assert later.status == Status.CANCELLED


def test_what_serves_is_evaluated_with_its_own_experts() -> None:
    """Whichever versions are current by now."""
    make_champion()
    make_routing_dataset()
    call_command("evaluate", "--serving", "--dataset-name", "routing_20260101_120000", "--stack", "--detach")
    params = Run.objects.get().params
    assert (params["serving"], params["stack"], params["run"], params["adapter"]) == (True, True, None, None)


def test_interrupting_leaves_the_pipeline_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says how to end it."""

    def watch_pipeline(pipeline: Pipeline) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workers.management.following.watch_pipeline", watch_pipeline)
    make_champion()
    with pytest.raises(CommandError, match="`cancel night` ends it") as caught:
        call_command("reevaluate", "--pipeline", "night", "--fresh-samples", "3")
    assert caught.value.returncode == 130
    assert not Pipeline.objects.get().cancel_requested


@pytest.mark.usefixtures("modal_token")
def test_a_pipelines_steps_run_on_the_backend_that_is_named() -> None:
    """Those of commands and of the API, but for what runs here alone."""
    make_champion()
    call_command("reevaluate", "--pipeline", "night", "--fresh-samples", "3", "--backend", "modal", "--detach")
    add = ("provider-select", "--source", "volume:provider-select", "--pipeline", "add", "--max-pixels", "16384")
    call_command("add_expert", *add, "--backend", "modal", "--detach")
    wish = {"kind": "reevaluate", "pipeline": "api", "fresh_samples": 3, "backend": "modal"}
    assert make_client(staff=True).post("/api/v1/pipelines/", wish, format="json").status_code == 201
    fetched, *others = Pipeline.objects.get(name="add").steps
    assert (fetched.kind, fetched.backend) == ("fetch", "local")
    others += [run for name in ("night", "api") for run in Pipeline.objects.get(name=name).steps]
    assert {run.backend for run in others} == {"modal"}
    pixels = {run.name: run.params.get("max_pixels") for run in others if run.kind == "preprocess"}
    assert (pixels["add-preprocess"], pixels["add-expert-preprocess"]) == (16_384, None)


def test_retry_waits_for_the_run(end: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """As the command did that launched it."""
    dataset = make_routing_dataset()
    make_run("prep", Status.FAILED, params={"dataset": dataset.name})
    end(Status.SUCCEEDED)
    call_command("retry", "prep")
    assert capsys.readouterr().out == "prep: succeeded\n"


@pytest.mark.usefixtures("modal_token")
@pytest.mark.parametrize(
    "words",
    [
        ("register_source", "calendar", "volume:calendar"),
        ("save_lora", "calendar", "volume:calendar"),
    ],
)
def test_what_fetches_does_not_wait_either_if_told(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    call_command(*words, "--detach")
    run = Run.objects.get()
    assert capsys.readouterr().out == f"{run.name}: queued\n"


def test_a_database_of_another_release_is_one_sentence() -> None:
    """Instead of a notice and an error of the database's."""
    MigrationRecorder(connection).migration_qs.filter(app="workers").delete()
    with pytest.raises(CommandError, match="not up to date: start `make serve`") as caught:
        call_command("preprocess", "--dataset-name", "x")
    assert caught.value.returncode == 1
