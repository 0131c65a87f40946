"""A step that takes longer than a round keeps nobody waiting, says so, and comes to its end in a task of its own."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.utils import timezone

from datasets_app.room import FULL
from tests.cast import make_run
from tests.workers.services.test_limits import Troubled, queued, troubled  # noqa: F401 - a fixture
from workers import tasks
from workers.compute.types import ComputeUnavailable, JobSpec
from workers.models import Attempt, Run
from workers.services import advance_all, cancel, long_steps
from workers.services.alone import LONG_STEP, alone
from workers.services.long_steps import LONG, extend
from workers.services.moves import move
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The messages."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(tasks.advance_long, "apply_async", lambda words, **options: found.append(words))
    return found


@pytest.fixture
def long(
    troubled: type[Troubled],  # noqa: F811
    sent: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """A run whose launch has taken longer than a round."""
    concluded: list[bool] = []

    def submit(self: Troubled, job: JobSpec) -> str:
        raise SoftTimeLimitExceeded

    with monkeypatch.context() as patch:
        patch.setattr(Troubled, "submit", submit)
        patch.setattr("workers.services.advancing.conclude_all", lambda: concluded.append(True))
        run = queued()
        with pytest.raises(SoftTimeLimitExceeded):
            advance_all()
    assert concluded
    run.refresh_from_db()
    return run


def test_a_step_that_takes_too_long_says_so_and_is_handed_to_a_task_of_its_own(
    long: Run, sent: list[tuple[int, int]]
) -> None:
    assert (long.status, long.trouble) == (Status.LAUNCHING, LONG)
    assert sent == [(long.pk, long.version)]


def test_rounds_never_try_it_again_themselves_but_send_the_message_again(
    long: Run, sent: list[tuple[int, int]]
) -> None:
    advance_all()
    assert len(sent) == 1  # its lease has not ended
    Run.objects.update(lease_until=None)
    Troubled.works = {"submit"}
    other = queued("other")
    advance_all()
    long.refresh_from_db()
    other.refresh_from_db()
    assert (len(sent), long.status, other.status) == (2, Status.LAUNCHING, Status.RUNNING)


def test_a_message_that_comes_often_takes_the_step_once(long: Run, sent: list[tuple[int, int]]) -> None:
    Troubled.works, Troubled.asked = {"submit"}, []
    for _ in range(3):
        tasks.advance_long(*sent[0])
    long.refresh_from_db()
    assert (long.status, long.trouble) == (Status.RUNNING, "")
    assert Troubled.asked == ["submit"]


def test_one_long_step_at_a_time_leaves_the_rest_of_the_worker_to_the_rounds(
    long: Run, sent: list[tuple[int, int]]
) -> None:
    Troubled.works = {"submit"}
    with alone(LONG_STEP) as mine:
        assert mine
        tasks.advance_long(*sent[0])
    long.refresh_from_db()
    assert long.status == Status.LAUNCHING


@pytest.mark.parametrize("status", [Status.LAUNCHING, Status.FINALIZING])
def test_a_lease_is_kept_until_the_run_moves_or_its_launch_is_to_end(status: Status) -> None:
    make_run(status=status)
    run = Run.objects.get()
    assert extend(run, run.status)
    lease = Run.objects.get().lease_until
    assert lease is not None
    assert lease > timezone.now()
    cancel(Run.objects.get())
    assert extend(run, run.status) == (status == Status.FINALIZING)  # which ends in a moment anyway
    move(Run.objects.get(), Status.FAILED)
    assert not extend(run, status)


def test_a_launch_that_takes_long_is_cancelled_by_a_round(long: Run, sent: list[tuple[int, int]]) -> None:
    cancel(long)
    Run.objects.update(lease_until=None)
    Troubled.works = {"cancel", "poll"}
    advance_all()
    long.refresh_from_db()
    assert (long.status, len(sent)) == (Status.CANCELLED, 1)


def test_a_broker_that_takes_no_message_costs_only_time(
    long: Run, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: Any, **options: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(tasks.advance_long, "apply_async", refuse)
    Run.objects.update(lease_until=None)
    advance_all()
    long.refresh_from_db()
    assert (long.trouble, long.lease_until is not None) == (LONG, True)


HOUR = timedelta(hours=1)


@pytest.fixture(params=[Status.LAUNCHING, Status.FINALIZING])
def hour(
    request: pytest.FixtureRequest,
    troubled: type[Troubled],  # noqa: F811
    sent: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """A run that moved to a long step an hour ago."""
    monkeypatch.setattr(Troubled, "outputs", lambda self, handle, progress: self._answer("outputs", "out"), False)
    monkeypatch.setattr("workers.services.following.get_kind", lambda kind: SimpleNamespace(finalize=lambda *_: {}))
    run = make_run(status=request.param, spec={"ready": True}, trouble=LONG, started_at=timezone.now() - HOUR)
    Attempt.objects.create(run=run, number=1, backend="local", slot=0)
    Run.objects.filter(pk=run.pk).update(moved_at=timezone.now() - HOUR)
    run.refresh_from_db()
    return run


def looked_at(run: Run, take: Callable[[], Any]) -> Run:
    """The run after somebody has come to it, whoever held it before."""
    Run.objects.filter(pk=run.pk).update(lease_until=None)
    take()
    run.refresh_from_db()
    return run


def is_through(run: Run) -> bool:
    """Whether the step was taken, for the first attempt."""
    return run.attempts.count() == 1 and run.status in (Status.RUNNING, Status.SUCCEEDED)


STEPS = {"submit", "outputs"}


def test_a_step_that_had_to_wait_for_its_turn_is_tried(hour: Run, sent: list[tuple[int, int]]) -> None:
    with alone(LONG_STEP):
        looked_at(hour, advance_all)
        tasks.advance_long(*sent[-1])
    hour.refresh_from_db()
    assert (hour.error, hour.trouble) == ("", LONG)
    Troubled.works = STEPS
    looked_at(hour, advance_all)
    tasks.advance_long(*sent[-1])
    hour.refresh_from_db()
    assert is_through(hour), hour.error


def test_a_step_whose_task_ran_out_of_time_goes_on_in_another(
    hour: Run, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Troubled, "error", SoftTimeLimitExceeded)
        looked_at(hour, advance_all)
        for _ in range(2):
            with pytest.raises(SoftTimeLimitExceeded):
                tasks.advance_long(*sent[-1])
            Run.objects.update(moved_at=timezone.now() - 2 * HOUR)
    hour.refresh_from_db()
    assert (hour.error, hour.trouble, len(sent)) == ("", LONG, 3)
    Troubled.works = STEPS
    tasks.advance_long(*sent[-1])
    hour.refresh_from_db()
    assert is_through(hour), hour.error


@pytest.mark.parametrize("trouble", [LONG, ""])
def test_a_step_whose_worker_was_gone_for_an_hour_is_tried_again(
    hour: Run, sent: list[tuple[int, int]], trouble: str
) -> None:
    Run.objects.update(trouble=trouble)
    Troubled.works = STEPS
    looked_at(hour, advance_all)
    if trouble:
        tasks.advance_long(*sent[-1])
    hour.refresh_from_db()
    assert is_through(hour), hour.error


def test_a_step_that_fails_for_half_an_hour_fails_the_run_with_the_reason(hour: Run) -> None:
    Run.objects.update(trouble="")
    assert looked_at(hour, advance_all).error == ""
    since = hour.failing_since
    assert since is not None
    assert looked_at(hour, advance_all).failing_since == since  # the first of the failures counts
    Run.objects.update(failing_since=since - timedelta(minutes=31))
    looked_at(hour, advance_all)
    assert hour.status == Status.FAILED
    assert "for 30 min: ConnectionError: The backend does not answer." in hour.error


@pytest.mark.parametrize("hour", [Status.FINALIZING], indirect=True)
def test_a_result_is_not_given_up_because_its_backend_is_silent(hour: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Troubled, "error", ComputeUnavailable)
    Run.objects.update(trouble="", failing_since=timezone.now() - HOUR + timedelta(minutes=40))
    assert looked_at(hour, advance_all).trouble == "The backend does not answer."
    assert (hour.status, hour.failing_since) == (Status.FINALIZING, None)


def test_a_try_that_lasts_is_the_end_of_the_failures_before(
    hour: Run, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Troubled, *words: Any) -> None:
        done.wait(20)
        raise ConnectionError

    def lease(run: Run, status: str) -> bool:
        done.set()
        return True

    done = threading.Event()
    for step in STEPS:
        monkeypatch.setattr(Troubled, step, fail)
    monkeypatch.setattr(long_steps, "LEASE", timedelta(seconds=0.1))
    monkeypatch.setattr(long_steps, "GETS_ON", 0.01)
    monkeypatch.setattr(long_steps, "extend", lease)
    before = timezone.now() - timedelta(minutes=29)
    Run.objects.update(failing_since=before)
    tasks.advance_long(hour.pk, hour.version)
    hour.refresh_from_db()
    assert (hour.error, hour.trouble) == ("", "ConnectionError: ")
    assert hour.failing_since is not None
    assert hour.failing_since > before + HOUR / 4


def test_that_a_try_lasts_is_known_to_those_who_come_after_its_worker() -> None:
    run = make_run(status=Status.FINALIZING, failing_since=timezone.now() - HOUR)
    run.failing_since = None
    assert extend(run, run.status)
    assert Run.objects.get().failing_since is None


def test_no_step_is_given_up_because_the_disk_is_full(hour: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Troubled, "error", staticmethod(lambda words: OSError(errno.ENOSPC, words)))
    Run.objects.update(trouble="")
    assert looked_at(hour, advance_all).trouble == FULL
    assert hour.failing_since is None


@pytest.mark.parametrize("hour", [Status.FINALIZING], indirect=True)
def test_a_result_that_never_comes_whole_is_given_up_in_the_end(hour: Run, sent: list[tuple[int, int]]) -> None:
    Run.objects.update(moved_at=timezone.now() - timedelta(days=8))
    looked_at(hour, advance_all)
    tasks.advance_long(*sent[-1])
    hour.refresh_from_db()
    assert (hour.status, hour.error) == (Status.FAILED, "Its result could not be recorded within 168 h.")
