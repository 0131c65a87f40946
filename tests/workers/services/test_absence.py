"""Time in which nobody looked is held against no run: the machine slept, workers were off, the clock was put on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from tests.workers.services.test_fences import Backend, backend, run  # noqa: F401 - fixtures
from tests.workers.services.test_limits import queued, troubled  # noqa: F401 - a fixture
from workers.compute.types import JobSpec, JobState
from workers.models import Run
from workers.services import advance, advance_all
from workers.states import Status

pytestmark = pytest.mark.django_db

NIGHT = timedelta(hours=8)
NAP = timedelta(minutes=20)
STEP = timedelta(seconds=50)


class Clock:
    """The clock on the wall, which goes on while the machine sleeps."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def sleep(self, time: timedelta) -> None:
        self.ahead += time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock, now = Clock(), timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + clock.ahead)
    return clock


def rounds_until(status: Status, clock: Clock, pause: timedelta) -> int:
    """How many rounds, with a pause before each, until the only run has the status."""
    for number in range(1, 101):
        clock.sleep(pause)
        advance_all()
        if Run.objects.get().status == status:
            return number
    raise AssertionError(f"The run is still {Run.objects.get().status}.")


@pytest.mark.usefixtures("run")
def test_a_job_does_not_hang_because_the_machine_slept(backend: Backend, clock: Clock) -> None:  # noqa: F811
    for _ in range(3):
        clock.sleep(NIGHT)
        advance_all()
        advance_all()
    assert "cancel" not in dict(backend.told)
    assert (Run.objects.get().status, Run.objects.get().attempts.count()) == (Status.RUNNING, 1)


@pytest.mark.usefixtures("run")
def test_a_job_does_not_hang_because_the_machine_slept_while_it_was_asked_after(
    backend: Backend,  # noqa: F811
    clock: Clock,
) -> None:
    def polled() -> JobState:
        clock.sleep(NIGHT)
        return JobState.RUNNING

    backend.polled = polled
    advance_all()
    advance_all()
    assert "cancel" not in dict(backend.told)
    assert Run.objects.get().status == Status.RUNNING


def test_a_worker_that_slept_with_a_row_in_its_hand_does_not_take_the_job_for_one_that_hangs(
    backend: Backend,  # noqa: F811
    run: Run,  # noqa: F811
    clock: Clock,
) -> None:
    clock.sleep(NIGHT)
    advance_all()
    advance(run)
    assert "cancel" not in dict(backend.told)
    assert Run.objects.get().status == Status.RUNNING


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("answers", [True, False])
def test_a_job_that_hangs_is_ended_within_the_limit(
    backend: Backend,  # noqa: F811
    clock: Clock,
    answers: bool,
) -> None:
    def polled() -> JobState:
        if answers:
            return JobState.RUNNING
        raise OSError("The status cannot be read.")

    clock.sleep(NIGHT)
    backend.polled = polled
    most = timedelta(seconds=settings.RUN_LIMITS["STALL"] + settings.RUN_LIMITS["CANCEL"]) // STEP
    assert rounds_until(Status.QUEUED, clock, STEP) <= most + 2
    assert Run.objects.get().attempts.get().outcome == "lost"


@pytest.mark.usefixtures("run")
def test_a_job_that_hangs_is_ended_though_the_machine_sleeps_again_and_again(
    backend: Backend,  # noqa: F811
    clock: Clock,
) -> None:
    """Its silence is counted over all the times that it was looked at; each nap counts as a minute."""
    rounds_until(Status.QUEUED, clock, NAP)
    assert Run.objects.get().attempts.get().outcome == "lost"
    told = [word for word, _ in backend.told]
    assert told[told.index("cancel") :].count("cancel") > 2  # it had its time to end, and then was given up


def test_a_launch_that_failed_before_the_machine_slept_is_tried_again(
    backend: Backend,  # noqa: F811
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def submit(self: Backend, job: JobSpec) -> str:
        raise ConnectionError("There is no network.")

    with monkeypatch.context() as patch:
        patch.setattr(Backend, "submit", submit)
        queued()
        advance_all()
    assert Run.objects.get().failing_since is not None
    clock.sleep(NIGHT)
    advance_all()
    assert Run.objects.get().status == Status.RUNNING


@pytest.mark.usefixtures("run")
def test_a_result_that_could_not_be_recorded_before_the_machine_slept_is_tried_again_and_in_the_end_given_up(
    backend: Backend,  # noqa: F811
    clock: Clock,
) -> None:
    backend.polled = lambda: JobState.SUCCEEDED  # and there is no way to its outputs
    advance_all()
    assert (Run.objects.get().status, Run.objects.get().failing_since is not None) == (Status.FINALIZING, True)
    clock.sleep(NIGHT)
    advance_all()
    assert Run.objects.get().status == Status.FINALIZING
    rounds_until(Status.FAILED, clock, STEP)
    assert "could not be recorded for 30 min" in Run.objects.get().error
