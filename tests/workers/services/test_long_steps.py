"""A step that takes longer than a round keeps nobody waiting, says so, and comes to its end in a task of its own."""

from __future__ import annotations

from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.utils import timezone

from tests.cast import make_run
from tests.workers.services.test_limits import Troubled, queued, troubled  # noqa: F401 - a fixture
from workers import tasks
from workers.compute.types import JobSpec
from workers.models import Run
from workers.services import advance_all, cancel
from workers.services.long_steps import LONG, alone, extend
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
    with alone() as mine:
        assert mine
        tasks.advance_long(*sent[0])
    long.refresh_from_db()
    assert long.status == Status.LAUNCHING


@pytest.mark.parametrize("status", [Status.LAUNCHING, Status.FINALIZING])
def test_a_lease_is_kept_until_the_run_moves_or_its_launch_is_to_end(status: Status) -> None:
    run = make_run(status=status)
    assert extend(run, run.status)
    lease = Run.objects.get().lease_until
    assert lease is not None
    assert lease > timezone.now()
    cancel(run)
    assert extend(run, run.status) == (status == Status.FINALIZING)  # which ends in a moment anyway
    move(run, Status.FAILED)
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
