"""A clock that was two hours ahead once, and was set right, holds nothing up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.cast import make_run
from workers.models import Alert, Heartbeat, Notification, Pipeline
from workers.services.advancing import advance_all
from workers.services.concluding import conclude_all
from workers.services.heartbeats import is_alive
from workers.services.moves import LONGEST_LEASE
from workers.services.notifications import deliver_due
from workers.states import Status

AHEAD = timedelta(hours=2)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("ahead", "waits"), [(AHEAD, False), (LONGEST_LEASE / 2, True)])
def test_a_run_waits_for_no_lease_that_is_longer_than_any(ahead: timedelta, waits: bool) -> None:
    run = make_run("first", Status.QUEUED, lease_until=timezone.now() + ahead, backend="no-such", params={})
    advance_all()
    run.refresh_from_db()
    assert (run.trouble == "") == waits


def test_a_pipeline_waits_for_no_such_lease_either() -> None:
    pipeline = Pipeline.objects.create(name="first", lease_until=timezone.now() + AHEAD)
    make_run("first", Status.FAILED, pipeline=pipeline, finished_at=timezone.now(), error="It failed.")
    conclude_all()
    pipeline.refresh_from_db()
    assert pipeline.outcome == Status.FAILED


def test_notifications_are_delivered(settings: Any, mailoutbox: list[Any]) -> None:
    """Their longest wait is a longer one."""
    settings.NOTIFY = {**settings.NOTIFY, "EMAILS": ["op@example.org"]}
    due = timezone.now() + 3 * AHEAD
    alert = Alert.objects.create(key="k", level=Alert.Level.INFO, text="t")
    Notification.objects.create(alert=alert, channel=Notification.Channel.EMAIL, due_at=due)
    assert deliver_due() == 1


def test_who_was_seen_in_the_future_is_not_alive() -> None:
    Heartbeat.objects.create(role="beat", at=timezone.now() + AHEAD)
    assert not is_alive("beat")
    Heartbeat.objects.update(at=timezone.now() + timedelta(seconds=2))  # another machine's clock
    assert is_alive("beat")
