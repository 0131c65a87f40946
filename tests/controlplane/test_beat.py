"""Beat's scheduler: what is wrong with one row stops no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from controlplane.beat import Scheduler
from controlplane.celery import app
from workers.models import Alert

pytestmark = pytest.mark.django_db

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
Break = Callable[[PeriodicTask], object]


class Recorder(Scheduler):
    """Keeps the names of what it would send."""

    producer = None

    def __init__(self) -> None:
        self.sent: list[str] = []
        PeriodicTask.objects.update(last_run_at=LONG_AGO)
        super().__init__(app=app)
        self._finalize.cancel()  # at the end of the process there is no database

    def apply_entry(self, entry: Any, producer: None = None) -> None:
        self.sent.append(entry.name)

    def round(self) -> list[str]:
        """What is sent until there is something to wait for, or one is sent again and again."""
        self.sent = []
        while self.tick() <= 0 and len(self.sent) < 20:
            pass
        return self.sent


@pytest.fixture(autouse=True)
def one_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that holds the test's transaction stays open."""
    monkeypatch.setattr("django_celery_beat.schedulers.close_old_connections", lambda: None)


@pytest.fixture
def odd() -> PeriodicTask:
    """A schedule of people's that is due at once."""
    Recorder()  # makes the platform's own
    often = IntervalSchedule.objects.create(every=1, period="seconds")
    task = PeriodicTask.objects.create(name="odd", task="workers.tasks.prune", interval=often, last_run_at=LONG_AGO)
    assert {"odd", "reconcile"} <= set(Recorder().round())
    return task


def test_a_row_that_beat_can_run_is_sent_with_its_time_written_down(odd: PeriodicTask) -> None:
    scheduler = Recorder()
    scheduler.round()
    scheduler.sync()
    odd.refresh_from_db()
    assert odd.last_run_at is not None and odd.last_run_at > LONG_AGO


def fields(**values: Any) -> Break:
    return lambda task: PeriodicTask.objects.filter(pk=task.pk).update(**values)


def solar(task: PeriodicTask) -> object:
    return fields(interval=None, solar=SolarSchedule.objects.create(event="sunrise", latitude=50, longitude=10))(task)


def interval(every: int, period: str) -> Break:
    return lambda task: IntervalSchedule.objects.filter(pk=task.interval_id).update(every=every, period=period)


def crontab(**values: str) -> Break:
    return lambda task: fields(interval=None, crontab=CrontabSchedule.objects.create(**values))(task)


def no_such_time_zone(task: PeriodicTask) -> None:
    crontab()(task)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_celery_beat_crontabschedule SET timezone = 'Mars/Olympus' WHERE minute = '*'")


BROKEN = {
    "args": fields(args="5"),
    "args that are no JSON": fields(args="["),
    "kwargs": fields(kwargs="[1]"),
    "kwargs of no type": fields(kwargs='{"a": {"__type__": "datetime", "__value__": 5}}'),
    "headers": fields(headers="[1]"),
    "a number as headers": fields(headers="5"),
    "no schedule": fields(interval=None),
    "the sun": solar,
    "aeons": interval(2_147_483_647, "days"),
    "ages": interval(900_000_000, "days"),
    "microseconds": interval(1, "microseconds"),
    "minute 61": crontab(minute="61"),
    "30 February": crontab(minute="0", hour="*", day_of_month="30", month_of_year="2"),
    "time zone": no_such_time_zone,
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_row_that_beat_cannot_run_is_passed_over_and_told_once(
    odd: PeriodicTask, settings: Any, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings.NOTIFY = {**settings.NOTIFY, "EMAILS": ["op@example.org"]}
    BROKEN[case](odd)
    for _ in range(2):
        scheduler = Recorder()
        sent = scheduler.round()
        assert "reconcile" in sent
        assert "odd" not in sent
    caplog.clear()
    scheduler.all_as_schedule()  # as every five minutes
    assert not [record for record in caplog.records if record.name.startswith("workers")]
    alert = Alert.objects.get()
    assert alert.level == "alert"
    assert "Beat passes over the schedule odd: " in alert.subject
    odd.refresh_from_db()
    assert odd.enabled


def test_a_row_that_was_mended_runs_again_without_a_restart(odd: PeriodicTask) -> None:
    BROKEN["args"](odd)
    scheduler = Recorder()
    assert "odd" not in scheduler.round()
    odd.args = "[]"
    odd.save()
    assert "odd" in scheduler.round()


def test_a_row_that_breaks_while_it_runs_stops_nothing(odd: PeriodicTask) -> None:
    """To write down when it ran is to change two fields, not to save what would be refused."""
    scheduler = Recorder()
    scheduler.round()
    fields(crontab=CrontabSchedule.objects.create())(odd)
    scheduler.sync()
    assert not scheduler._dirty


def test_what_a_clock_that_was_ahead_has_run_runs_again_when_it_is_set_right(odd: PeriodicTask) -> None:
    scheduler = Recorder()
    PeriodicTask.objects.update(last_run_at=timezone.now() + timedelta(hours=2))
    for name in ("odd", "reconcile"):
        due, wait = scheduler.all_as_schedule()[name].is_due()
        assert due or wait <= 2, name


def test_a_clock_that_is_set_back_while_beat_runs_holds_nothing_up(
    odd: PeriodicTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = timezone.now

    def ahead() -> datetime:
        return right() + timedelta(hours=2)

    monkeypatch.setattr(timezone, "now", ahead)
    scheduler = Recorder()
    assert "odd" in scheduler.round()
    monkeypatch.setattr(timezone, "now", right)
    PeriodicTask.objects.filter(pk=odd.pk).update(last_run_at=LONG_AGO)
    scheduler._dirty.clear()
    assert "odd" in scheduler.round()
