"""Runs on Modal with something going wrong: no second job does the work of one attempt, and every run ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.modal_plane.plane import Plane
from workers.compute import get_compute
from workers.compute.modal import ModalCompute
from workers.compute.types import JobSpec, JobState
from workers.models import Run
from workers.services import advance_all, cancel, launch
from workers.states import Status

pytestmark = pytest.mark.long

Drive = Callable[..., Run]


@pytest.fixture(autouse=True)
def impatient(settings: Any, plane: Plane, modal_app: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Poll often, wait little."""
    modal = {**settings.COMPUTE["modal"], "POLL": timedelta(seconds=0.3)}
    settings.COMPUTE = {**settings.COMPUTE, "modal": modal}
    settings.COMPUTE_DEFAULT = "modal"
    monkeypatch.setattr("workers.services.silence.BACKOFF", (timedelta(seconds=0.2), timedelta(seconds=1)))
    yield
    get_compute.cache_clear()


def call_of(run: Run) -> str:
    return run.attempts.latest("number").handle.partition("/")[2]


def begun(plane: Plane, run: Run) -> bool:
    """Whether a container works on the run's job."""
    if run.status != Status.RUNNING or not call_of(run):
        return False
    key = run.attempts.latest("number").launch_key
    return (plane.volume("moe-lora-data") / "runs" / key / "claim.json").exists()


def test_an_answer_lost_after_the_spawn_costs_no_second_job(
    plane: Plane, generate: dict[str, object], drive: Drive
) -> None:
    plane.faults.lose("FunctionMap")
    before = len(plane.calls.calls)
    run = drive(launch("generate_dataset", generate, name="modal_a"), seconds=300)
    assert run.status == Status.SUCCEEDED, run.error
    assert len(plane.calls.calls) == before + 2
    assert run.attempts.count() == 1
    calls = list(plane.calls.calls)[before:]
    logs = [container.log.read_text() for container in plane.machines.started[-2:]]
    assert sum("taken by another call" in log for log in logs) == 1, (calls, logs)


KILLED_AFTER_THE_SPAWN = """
import json, os, signal, sys
from workers.compute.modal import ModalCompute
from workers.remote import calls
from workers.compute.types import JobSpec
spawn = calls.spawn
calls.spawn = lambda *words: (spawn(*words), os.kill(os.getpid(), signal.SIGKILL))
options, job = map(json.loads, sys.argv[1:])
ModalCompute(**options).submit(JobSpec(**job))
"""


class Killed(BaseException):
    """The worker is gone; nothing that it would have done next was done."""


@pytest.fixture
def killed(
    plane: Plane, generate: dict[str, object], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[Run, str]:
    """A run whose worker was killed between spawn and save, and the call that nobody knows; it waits for a machine."""
    plane.faults.hold = True
    options = json.dumps(settings.COMPUTE["modal"]["OPTIONS"])
    before = set(plane.calls.calls)

    def submit(self: ModalCompute, job: JobSpec) -> str:
        words = [sys.executable, "-c", KILLED_AFTER_THE_SPAWN, options, json.dumps(job.as_dict())]
        assert subprocess.run(words, check=False, timeout=120).returncode == -signal.SIGKILL
        raise Killed

    run = launch("generate_dataset", generate)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ModalCompute, "submit", submit)
        advance_all()
    run.refresh_from_db()
    assert (run.status, run.attempts.get().handle) == (Status.LAUNCHING, "")
    (call,) = set(plane.calls.calls) - before
    Run.objects.filter(pk=run.pk).update(lease_until=None)  # its lease has ended
    return run, call


def test_a_worker_killed_between_spawn_and_save_leaves_a_call_that_is_adopted(
    plane: Plane, killed: tuple[Run, str], drive: Drive
) -> None:
    run, first = killed
    advance_all()
    run.refresh_from_db()
    assert call_of(run) != first
    plane.faults.hold = False
    run = drive(run, seconds=300)
    assert run.status == Status.SUCCEEDED, run.error
    assert run.attempts.count() == 1
    assert call_of(run) == first  # it came first, and the other left


def test_a_preempted_job_waits_for_a_machine_and_goes_on_under_its_call(
    plane: Plane, generate: dict[str, object], drive: Drive, limits: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = drive(launch("generate_dataset", generate, name="modal_d"), until=lambda run: begun(plane, run), seconds=300)
    call = call_of(run)
    plane.faults.hold = True
    plane.preempt(call)
    with monkeypatch.context() as patch:
        patch.setattr("workers.remote.signs.SILENT", 0.0)
        waits = get_compute("modal").poll(run.attempts.get().handle)
        assert waits.state == JobState.PENDING
        assert waits.seconds > 0
        Run.objects.update(heartbeat_at=timezone.now() - 2 * timedelta(seconds=limits["STALL"]), lease_until=None)
        advance_all()
        run.refresh_from_db()
        assert (run.status, run.attempts.count(), call_of(run)) == (Status.RUNNING, 1, call)
    plane.faults.hold = False
    run = drive(run, seconds=300)
    assert run.status == Status.SUCCEEDED, run.error
    assert call_of(run) == call
    assert plane.call(call).starts == 2
    assert run.attempts.count() == 1


def test_a_job_whose_container_crashes_gets_another_attempt(
    plane: Plane, generate: dict[str, object], drive: Drive
) -> None:
    run = drive(launch("generate_dataset", generate, name="modal_e"), until=lambda run: begun(plane, run), seconds=300)
    plane.crash(call_of(run))
    run = drive(run, seconds=300)
    assert run.status == Status.SUCCEEDED, run.error
    lost, last = run.attempts.order_by("number")
    assert (lost.outcome, last.outcome) == ("lost", "succeeded")
    assert "container on Modal was lost" in lost.error


def test_a_run_is_cancelled_and_one_past_its_deadline_given_up(
    plane: Plane, generate: dict[str, object], drive: Drive, settings: Any
) -> None:
    plane.faults.hold = True
    run = drive(launch("generate_dataset", generate, name="modal_f"), until=lambda run: run.status == Status.RUNNING)
    cancel(run)
    assert drive(run).status == Status.CANCELLED
    settings.COMPUTE["modal"]["DEADLINE"] = timedelta(seconds=1)
    run = drive(launch("generate_dataset", generate, name="modal_g"))
    assert run.status == Status.FAILED
    assert run.error == "It did not end within 1 s."
    assert plane.call(call_of(run)).output is not None  # and the call was cancelled


def test_a_run_cancelled_between_spawn_and_save_ends_and_its_call_does_no_work(
    plane: Plane, killed: tuple[Run, str], drive: Drive
) -> None:
    run, call = killed
    spawned = len(plane.calls.calls)
    cancel(run)
    advance_all()
    run.refresh_from_db()
    assert run.status == Status.CANCELLED
    assert len(plane.calls.calls) == spawned
    plane.faults.hold = False
    plane.wait(call)
    key = run.attempts.get().launch_key
    assert not (plane.volume("moe-lora-data") / "runs" / key / "claim.json").exists()


def test_an_app_that_is_not_deployed_fails_the_run_with_what_to_do(
    plane: Plane, generate: dict[str, object], drive: Drive, settings: Any
) -> None:
    settings.COMPUTE["modal"]["OPTIONS"] = {**settings.COMPUTE["modal"]["OPTIONS"], "app": "nobody"}
    run = drive(launch("generate_dataset", generate, name="modal_h"))
    assert run.status == Status.FAILED
    assert "modal deploy -m workers.modal_app" in run.error
