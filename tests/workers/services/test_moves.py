"""A run's status changes by one conditional UPDATE."""

from __future__ import annotations

from datetime import timedelta

import pytest

from workers.models import Run
from workers.services.moves import move, renew
from workers.states import ACTIVE, SOURCES, TERMINAL, Status

pytestmark = pytest.mark.django_db


def run_in(status: Status) -> Run:
    return Run.objects.create(name=f"run-{status}", kind=Run.Kind.TRAIN, backend="local", status=status)


def test_of_two_that_read_the_same_row_only_one_moves_it() -> None:
    first = run_in(Status.QUEUED)
    second = Run.objects.get(pk=first.pk)
    assert move(first, Status.LAUNCHING)
    assert not move(second, Status.LAUNCHING)
    assert not move(second, Status.CANCELLED)
    assert Run.objects.get(pk=first.pk).status == Status.LAUNCHING


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("to", list(Status))
def test_a_terminal_status_never_changes(status: Status, to: Status) -> None:
    run = run_in(status)
    assert not move(run, to)
    assert Run.objects.get(pk=run.pk).status == status


def test_every_status_but_the_first_can_be_reached_and_every_active_one_can_be_left() -> None:
    assert set(SOURCES) == set(Status)
    assert {source for sources in SOURCES.values() for source in sources} == set(ACTIVE)


def test_moving_to_a_terminal_status_records_when() -> None:
    run = run_in(Status.RUNNING)
    assert move(run, Status.FAILED, error="It broke.")
    run.refresh_from_db()
    assert run.finished_at is not None
    assert run.error == "It broke."


def test_a_lease_is_taken_over_by_one() -> None:
    first = run_in(Status.FINALIZING)
    second = Run.objects.get(pk=first.pk)
    assert renew(first, timedelta(seconds=60))
    assert not renew(second, timedelta(seconds=60))
