"""What happens to a run between its launch and its end, with real jobs on this machine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from datasets_app.models import RoutingDataset, SourceDataset
from workers.models import Attempt, Run
from workers.services import advance_all, cancel, cancel_pipeline, launch, launch_router_pipeline
from workers.services.ending import MAX_ATTEMPTS
from workers.states import Status

Drive = Callable[..., Run]


def job_folder(attempt: Attempt) -> Path:
    return Path(settings.DATA_ROOT) / "jobs" / attempt.launch_key


def pid_of(run: Run) -> int | None:
    attempt = run.attempts.order_by("-number").first()
    if attempt is None:
        return None
    try:
        return int(json.loads((job_folder(attempt) / "claim").read_bytes())["pid"])
    except (OSError, ValueError):
        return None


def has_claimed(run: Run) -> bool:
    return run.status == Status.RUNNING and pid_of(run) is not None


def test_a_run_ends_in_a_recorded_dataset(generate: dict[str, object], drive: Drive) -> None:
    run = drive(launch("generate_dataset", generate, name="routing_a"))
    assert run.status == Status.SUCCEEDED, run.error
    dataset = RoutingDataset.objects.get(name="routing_a")
    assert run.routing_dataset == dataset
    assert (Path(dataset.path) / "train.jsonl").is_file()
    assert {source.name for source in dataset.sources.all()} == {"calendar", "claim-window", "provider-select", "other"}
    assert run.attempts.get().outcome == "succeeded"


def test_a_job_that_is_killed_gets_another_attempt(generate: dict[str, object], drive: Drive) -> None:
    run = drive(launch("generate_dataset", generate, name="routing_b"), until=has_claimed)
    os.kill(pid_of(run) or 0, signal.SIGKILL)
    run = drive(run)
    assert run.status == Status.SUCCEEDED, run.error
    assert [attempt.outcome for attempt in run.attempts.all()] == ["lost", "succeeded"]


def test_a_job_that_is_killed_every_time_fails_after_a_few_attempts(generate: dict[str, object], drive: Drive) -> None:
    run = launch("generate_dataset", generate, name="routing_c")
    for attempt in range(1, MAX_ATTEMPTS + 1):
        run = drive(run, until=lambda run, n=attempt: has_claimed(run) and run.attempts.count() == n)
        os.kill(pid_of(run) or 0, signal.SIGKILL)
    run = drive(run)
    assert run.status == Status.FAILED
    assert "killed" in run.error
    assert not RoutingDataset.objects.filter(name="routing_c").exists()


def test_cancelling_a_running_job_ends_it(generate: dict[str, object], drive: Drive) -> None:
    run = drive(launch("generate_dataset", generate, name="routing_d"), until=has_claimed)
    os.kill(pid_of(run) or 0, signal.SIGSTOP)  # so that it can't finish first
    cancel(run)
    advance_all()
    os.kill(pid_of(run) or 0, signal.SIGCONT)
    assert drive(run).status == Status.CANCELLED
    assert not RoutingDataset.objects.filter(name="routing_d").exists()


def test_a_launch_whose_worker_died_before_saving_the_handle_is_adopted(
    generate: dict[str, object], drive: Drive
) -> None:
    run = drive(launch("generate_dataset", generate, name="routing_e"), until=has_claimed)
    first = pid_of(run)
    # As if the worker had died between starting the job and writing its handle down.
    Attempt.objects.filter(run=run).update(handle="")
    Run.objects.filter(pk=run.pk).update(status=Status.LAUNCHING, lease_until=None)
    run = drive(run, until=lambda run: run.status != Status.LAUNCHING)
    assert pid_of(run) == first
    assert drive(run).status == Status.SUCCEEDED
    assert run.attempts.count() == 1


def test_finalising_again_after_a_crash_changes_nothing(generate: dict[str, object], drive: Drive) -> None:
    run = drive(launch("generate_dataset", generate, name="routing_f"))
    # As if the worker had died after recording the dataset and before moving the run.
    Run.objects.filter(pk=run.pk).update(status=Status.FINALIZING, lease_until=None, routing_dataset=None)
    run = drive(run)
    assert run.status == Status.SUCCEEDED
    assert run.routing_dataset == RoutingDataset.objects.get(name="routing_f")


def test_outputs_changed_after_the_job_ended_are_not_recorded(generate: dict[str, object], drive: Drive) -> None:
    run = launch("generate_dataset", generate, name="routing_g")
    advance_all()
    attempt = run.attempts.get()
    while not (job_folder(attempt) / "result.json").exists():
        pass
    with (job_folder(attempt) / "out" / "train.jsonl").open("a") as file:
        file.write("{}\n")
    run = drive(run)
    assert run.status == Status.FAILED
    assert "train.jsonl has changed" in run.error


def test_a_class_with_too_few_samples_fails_the_run_with_one_sentence(
    generate: dict[str, object], drive: Drive
) -> None:
    SourceDataset.objects.update(screens=None)  # not counted, so that the launch cannot tell
    run = drive(launch("generate_dataset", {**generate, "samples_per_class": 5000}))
    assert run.status == Status.FAILED
    assert "5000" in run.error or "needed" in run.error
    assert "Traceback" not in run.error


def test_no_more_jobs_run_at_once_than_there_are_slots(
    generate: dict[str, object], drive: Drive, settings: pytest.FixtureRequest
) -> None:
    settings.COMPUTE = {"local": {**settings.COMPUTE["local"], "SLOTS": 1}}  # type: ignore[attr-defined]
    runs = [launch("generate_dataset", {**generate, "seed": seed}) for seed in range(2)]
    advance_all()
    assert sorted(Run.objects.values_list("status", flat=True)) == [Status.QUEUED, Status.RUNNING]
    for run in runs:
        assert drive(run).status == Status.SUCCEEDED


def test_a_pipeline_whose_first_step_fails_cancels_the_rest(experts: list[str], drive: Drive) -> None:
    SourceDataset.objects.update(screens=None)
    pipeline = launch_router_pipeline("many", adapters=experts, samples_per_class=5000)
    for run in pipeline.steps:
        drive(run)
    assert [run.status for run in pipeline.steps] == [Status.FAILED, *[Status.CANCELLED] * 3]
    assert pipeline.status == Status.FAILED


def test_cancelling_a_pipeline_cancels_every_step(experts: list[str], drive: Drive) -> None:
    pipeline = launch_router_pipeline("few", adapters=experts, samples_per_class=10)
    cancel_pipeline(pipeline)
    assert {drive(run).status for run in pipeline.steps} == {Status.CANCELLED}


@pytest.mark.parametrize("failing", [0, 2, 3])
def test_cancelling_a_pipeline_survives_the_process_that_asked_and_any_one_run(
    experts: list[str], monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    pipeline = launch_router_pipeline("few", adapters=experts, samples_per_class=10)

    def broken(run: Run) -> Run:
        if run.step == failing:
            raise SystemExit
        return cancel(run)

    monkeypatch.setattr("workers.services.pipelines.cancel", broken)
    with pytest.raises(SystemExit):
        cancel_pipeline(pipeline)
    assert all(run.cancel_requested for run in pipeline.steps)
    advance_all()
    assert {run.status for run in pipeline.steps} == {Status.CANCELLED}


def test_a_pipeline_goes_on_from_where_it_was_cancelled(experts: list[str], drive: Drive) -> None:
    pipeline = launch_router_pipeline("again", adapters=experts, samples_per_class=10)
    drive(pipeline.steps[0])
    cancel_pipeline(pipeline)
    for run in pipeline.steps:
        drive(run)
    again = launch_router_pipeline("again", adapters=experts, samples_per_class=10)
    assert again == pipeline
    assert again.steps[0].status == Status.SUCCEEDED
    assert again.steps[1].status == Status.QUEUED
    cancel_pipeline(again)
    for run in again.steps:
        drive(run)
