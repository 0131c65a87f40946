"""A process acts on nothing that others have moved on since it looked: the run moves first, then the job is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from tests.workers.services.test_limits import Troubled, queued, troubled  # noqa: F401 - a fixture
from workers.compute.types import JobSpec, JobState, JobStatus
from workers.models import Attempt, Run
from workers.services import advance, advance_all, cancel
from workers.services.ending import MAX_ATTEMPTS, close
from workers.services.moves import LEASE, move
from workers.states import Status

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """The worker is gone."""


class Backend:
    """Remembers what it is told of which job; `polled` is what happens while it is asked, and its answer."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.polled: Callable[[], JobState] = lambda: JobState.RUNNING

    def submit(self, job: JobSpec) -> str:
        self.told.append(("submit", job.launch_key))
        return job.launch_key

    def poll(self, handle: str) -> JobStatus:
        self.told.append(("poll", handle))
        return JobStatus(self.polled())

    def cancel(self, handle: str, *, at_once: bool = False) -> None:
        self.told.append(("cancel", handle))


@pytest.fixture
def backend(troubled: type[Troubled], monkeypatch: pytest.MonkeyPatch) -> Backend:  # noqa: F811
    backend = Backend()
    for module in ("starting", "following", "ending"):
        monkeypatch.setattr(f"workers.services.{module}.get_compute", lambda name: backend)
    return backend


@pytest.fixture
def run(backend: Backend) -> Run:
    """A run with a job at work."""
    run = queued()
    advance_all()
    run.refresh_from_db()
    assert run.status == Status.RUNNING
    backend.told.clear()
    return run


def lose_and_launch_again(pk: int) -> Attempt:
    """What other processes do: the attempt is lost, and another is about to be submitted."""
    run = Run.objects.get(pk=pk)
    move(run, Status.QUEUED)
    close(run.attempts.get(), "lost")
    move(run, Status.LAUNCHING, lease=LEASE)
    return Attempt.objects.create(run=run, number=2, backend="local", slot=0)


@pytest.mark.parametrize("seconds", [0, 10**6], ids=["working", "stalled"])
def test_a_row_read_before_another_attempt_does_that_attempt_no_harm(
    backend: Backend, run: Run, seconds: float
) -> None:
    Run.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=seconds))
    stale = Run.objects.get()
    second = lose_and_launch_again(run.pk)
    advance(stale)
    second.refresh_from_db()
    assert backend.told == []
    assert (Run.objects.get().status, second.outcome) == (Status.LAUNCHING, "")


def test_a_job_found_lost_by_one_who_was_late_is_not_told_to_end(backend: Backend, run: Run) -> None:
    def polled() -> JobState:
        lose_and_launch_again(run.pk)
        return JobState.LOST

    backend.polled = polled
    advance_all()
    assert ("cancel" not in dict(backend.told), Run.objects.get().status) == (True, Status.LAUNCHING)


def test_a_run_that_another_process_has_taken_since_it_was_listed_is_left_to_that(backend: Backend, run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(status=Status.LAUNCHING)
    move(other := queued("other"), Status.LAUNCHING)
    Attempt.objects.create(run=other, number=1, backend="local", slot=1)

    def submit(job: JobSpec) -> str:
        backend.told.append(("submit", job.launch_key))
        Run.objects.update(lease_until=timezone.now() + LEASE)
        return job.launch_key

    backend.submit = submit  # type: ignore[method-assign]
    advance_all()
    assert len(backend.told) == 1


def test_what_was_seen_of_a_job_hides_no_lease_and_no_wish_to_cancel(backend: Backend, run: Run) -> None:
    lease = timezone.now() + LEASE

    def polled() -> JobState:
        cancel(Run.objects.get())
        Run.objects.update(lease_until=lease)
        return JobState.RUNNING

    backend.polled = polled
    advance_all()
    stored = Run.objects.get()
    assert (stored.lease_until, stored.seen_at, stored.cancel_requested) == (lease, run.seen_at, True)


def test_a_lost_job_whose_cancel_was_cut_off_is_cancelled_before_another_is_launched(
    backend: Backend, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run.attempts.get().launch_key

    def killed(*words: object, **options: object) -> None:
        raise Killed

    backend.polled = lambda: JobState.LOST
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Backend, "cancel", killed)
        advance_all()
    assert Run.objects.get().status == Status.QUEUED
    backend.told.clear()
    Attempt.objects.update(cancel_due_at=timezone.now())
    advance_all()
    assert backend.told[0] == ("cancel", first)
    assert "submit" not in dict(backend.told)
    advance_all()
    assert backend.told[-1][0] == "submit"


def test_a_job_that_a_user_ended_is_not_taken_for_lost_by_one_who_did_not_know(backend: Backend, run: Run) -> None:
    run.attempts.update(number=MAX_ATTEMPTS)

    def polled() -> JobState:
        cancel(Run.objects.get())
        return JobState.CANCELLED

    backend.polled = polled
    advance_all()
    assert Run.objects.get().status == Status.RUNNING
    advance_all()
    assert Run.objects.get().status == Status.CANCELLED


def test_a_wish_to_cancel_is_written_down_whoever_moves_the_run_meanwhile(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = queued()
    monkeypatch.setattr("workers.services.launching.move", lambda *words, **fields: False)
    monkeypatch.setattr("workers.services.launching.note", lambda *words, **fields: False, raising=False)
    assert cancel(run).cancel_requested
    assert Run.objects.get().cancel_requested
    advance_all()
    assert (Run.objects.get().status, backend.told) == (Status.CANCELLED, [])


def test_a_run_that_is_cancelled_while_it_is_submitted_ends_with_the_next_round(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = queued()

    def submit(self: Backend, job: JobSpec) -> str:
        cancel(run)
        return job.launch_key

    monkeypatch.setattr(Backend, "submit", submit)
    advance_all()
    advance_all()
    key = run.attempts.get().launch_key
    assert (Run.objects.get().status, backend.told) == (Status.CANCELLED, [("cancel", key), ("poll", key)])
