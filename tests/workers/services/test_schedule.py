"""Each slot of the schedule once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask

from adapters.models import Alias
from datasets_app.errors import InputError
from tests.cast import make_champion
from workers.models import Alert, Pipeline, Slot
from workers.services import run_due, run_now
from workers.services.arguments import bind
from workers.services.schedule import REEVALUATE, last_match
from workers.tasks import reconcile, reevaluate

pytestmark = pytest.mark.django_db

DAY = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def hourly(monkeypatch: pytest.MonkeyPatch) -> PeriodicTask:
    """A task of every hour; its pipelines are rows alone."""
    PeriodicTask.objects.all().delete()
    make_champion()

    def launch(pipeline: str, **wish: Any) -> Pipeline:
        wish.pop("user", None)
        return Pipeline.objects.get_or_create(name=pipeline, defaults={"kind": "reevaluate", "wish": wish})[0]

    monkeypatch.setattr("workers.services.schedule.reevaluate", launch)
    every = IntervalSchedule.objects.create(every=1, period="hours")
    kwargs = json.dumps({"fresh_samples": 5, "rollback": True})
    return PeriodicTask.objects.create(name="hourly", task=REEVALUATE, interval=every, kwargs=kwargs)


def test_two_beats_over_a_day_run_each_slot_once(hourly: PeriodicTask) -> None:
    for minutes in range(0, 24 * 60, 7):
        for _ in range(2):
            run_due(DAY + timedelta(minutes=minutes))
    slots = Slot.objects.exclude(pipeline=None)
    assert slots.count() == Pipeline.objects.count() == 23  # the first slot is when the schedule began
    assert {slot.at.minute for slot in slots} == {0}
    assert Pipeline.objects.latest("id").wish["rollback"] is True


def test_slots_that_were_missed_run_once(hourly: PeriodicTask) -> None:
    run_due(DAY)
    assert len(run_due(DAY + timedelta(days=3, minutes=5))) == 1
    assert run_due(DAY + timedelta(days=3, minutes=6)) == []


def test_slots_that_were_taken_while_the_clock_was_ahead_hold_up_none_before_them_and_run_once(
    hourly: PeriodicTask,
) -> None:
    assert [at(hours) for hours in (0, 1, 5.5)] == [0, 1, 1]  # the last by a clock that was four hours ahead
    assert [at(hours) for hours in (1.5, 2, 3, 4, 5, 6)] == [0, 1, 1, 1, 0, 1]
    assert Slot.objects.exclude(pipeline=None).count() == Pipeline.objects.count() == 6


def test_a_one_off_that_ran_while_the_clock_was_ahead_has_run(hourly: PeriodicTask) -> None:
    PeriodicTask.objects.update(one_off=True)
    assert [at(hours) for hours in (0, 5.5)] == [0, 1]
    assert [at(hours) for hours in (1, 2)] == [0, 0]
    PeriodicTask.objects.update(enabled=False, last_run_at=DAY + timedelta(hours=5.6))
    assert [at(hours) for hours in (3, 4, 5, 6)] == [0, 0, 0, 0]


def test_a_slot_that_another_process_took_launches_nothing(
    hourly: PeriodicTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_due(DAY)
    create = Slot.objects.create

    def second(**fields: Any) -> Slot:
        monkeypatch.setattr(Slot.objects, "create", create)
        create(**fields)
        return create(**fields)

    monkeypatch.setattr(Slot.objects, "create", second)
    assert run_due(DAY + timedelta(hours=1)) == []
    assert not Pipeline.objects.exists()


def test_a_schedule_that_is_off_runs_nothing(hourly: PeriodicTask) -> None:
    run_due(DAY)
    PeriodicTask.objects.update(enabled=False)
    assert run_due(DAY + timedelta(hours=1)) == []


@pytest.fixture
def clocked(hourly: PeriodicTask) -> PeriodicTask:
    """A task of one moment instead: six o'clock."""
    moment = ClockedSchedule.objects.create(clocked_time=DAY + timedelta(hours=6))
    PeriodicTask.objects.update(interval=None, clocked=moment, one_off=True)
    return PeriodicTask.objects.get()


def at(hours: float) -> int:
    """How many pipelines two beats launch at that time."""
    return sum(len(run_due(DAY + timedelta(hours=hours))) for _ in range(2))


def test_a_moment_is_served_once(clocked: PeriodicTask) -> None:
    assert [at(hours) for hours in (0, 5.9, 6, 6.1, 30)] == [0, 0, 1, 0, 0]


def test_a_one_off_that_beat_has_sent_and_switched_off_is_served_all_the_same(clocked: PeriodicTask) -> None:
    assert at(5) == 0
    PeriodicTask.objects.update(enabled=False, last_run_at=DAY + timedelta(hours=6, seconds=1))
    assert [at(7), at(8)] == [1, 0]


def test_a_one_off_that_people_have_switched_off_is_not_served(clocked: PeriodicTask) -> None:
    PeriodicTask.objects.update(enabled=False)
    assert at(7) == 0
    PeriodicTask.objects.update(last_run_at=DAY)
    assert at(7) == 0


def test_a_one_off_of_a_rule_counts_its_slots_until_beat_has_sent_it(hourly: PeriodicTask) -> None:
    PeriodicTask.objects.update(one_off=True)
    assert at(0.5) == 0
    PeriodicTask.objects.update(enabled=False, last_run_at=DAY + timedelta(hours=1.5))
    assert [at(3), at(4)] == [1, 0]


def test_a_wish_that_makes_no_sense_is_written_down_and_told(hourly: PeriodicTask, settings: Any) -> None:
    """Else watching would stop without a word."""
    settings.NOTIFY = {**settings.NOTIFY, "EMAILS": ["op@example.org"]}
    run_due(DAY)
    PeriodicTask.objects.update(kwargs='{"fresh_samples": -1}')
    assert run_due(DAY + timedelta(hours=1)) == []
    assert "fresh_samples" in Slot.objects.latest("at").note
    alert = Alert.objects.get()
    assert alert.level == "alert"
    assert (
        "Schedule hourly: what was due at 2026-03-01 01:00 could not be launched: kwargs: fresh_samples"
        in alert.subject
    )


def test_it_runs_now_once_a_second_and_keeps_its_next_slot(hourly: PeriodicTask) -> None:
    run_due(DAY)
    pipeline = run_now(hourly)
    assert pipeline.wish["fresh_samples"] == 5
    assert run_now(hourly).pk >= pipeline.pk
    later = timezone.now() + timedelta(hours=1)
    assert len(run_due(later)) == 1
    assert run_due(later) == []


def test_what_cannot_run_now_is_refused_and_takes_no_slot(hourly: PeriodicTask) -> None:
    hourly.kwargs = '{"fresh_sample": 3}'
    with pytest.raises(InputError, match=r"kwargs: .*takes no 'fresh_sample'; it takes fresh_samples, rollback\."):
        run_now(hourly)
    assert not Slot.objects.exists()


@pytest.mark.parametrize("error", [InputError("The cap on the cost is reached."), OSError("No such folder.")])
def test_a_launch_that_is_refused_is_told_once(
    hourly: PeriodicTask, settings: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(**wish: Any) -> Pipeline:
        raise error

    settings.NOTIFY = {**settings.NOTIFY, "EMAILS": ["op@example.org"]}
    monkeypatch.setattr("workers.services.schedule.reevaluate", refuse)
    run_due(DAY)
    for _ in range(2):
        assert run_due(DAY + timedelta(hours=1)) == []
    assert str(error) in Alert.objects.get().text


def test_before_a_router_is_live_there_is_nothing_to_tell(hourly: PeriodicTask, settings: Any) -> None:
    settings.NOTIFY = {**settings.NOTIFY, "EMAILS": ["op@example.org"]}
    Alias.objects.all().delete()
    run_due(DAY)
    run_due(DAY + timedelta(hours=1))
    assert "No router is live" in Slot.objects.latest("at").note
    assert not Alert.objects.exists()


def test_a_schedule_that_makes_no_sense_costs_no_other_its_turn(hourly: PeriodicTask) -> None:
    crontab = CrontabSchedule.objects.create(minute="61")
    PeriodicTask.objects.create(name="broken", task=REEVALUATE, crontab=crontab)
    run_due(DAY)
    assert len(run_due(DAY + timedelta(hours=1))) == 1


@pytest.mark.usefixtures("new_installation")
def test_the_installation_begins_with_a_schedule() -> None:
    task = PeriodicTask.objects.get(task=REEVALUATE)
    assert task.enabled
    assert bind(task.task, [], json.loads(task.kwargs))["fresh_samples"] is None  # as many as were held out
    make_champion()
    reevaluate()  # the message of beat: nothing is due before the first night
    assert Slot.objects.get(schedule=task.name).pipeline is None


@pytest.mark.parametrize(
    ("fields", "now", "expected"),
    [
        ({"minute": "0", "hour": "3"}, (2026, 3, 1, 2, 59), (2026, 2, 28, 3, 0)),
        ({"minute": "0", "hour": "3"}, (2026, 3, 1, 3, 0), (2026, 3, 1, 3, 0)),
        ({"minute": "*/15", "hour": "*"}, (2026, 3, 1, 0, 14), (2026, 3, 1, 0, 0)),
        ({"minute": "30", "hour": "6", "day_of_week": "0"}, (2026, 3, 7, 12, 0), (2026, 3, 1, 6, 30)),
        ({"minute": "0", "hour": "0", "day_of_month": "29", "month_of_year": "2"}, (2026, 3, 1), (2024, 2, 29)),
        ({"minute": "0", "hour": "3", "timezone": "Europe/Berlin"}, (2026, 7, 1, 2, 0), (2026, 7, 1, 1, 0)),
    ],
)
def test_the_newest_minute_that_a_crontab_matches(
    fields: dict[str, str], now: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    crontab = CrontabSchedule(**fields).schedule
    assert last_match(crontab, datetime(*now, tzinfo=UTC)) == datetime(*expected, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("minute", "hour", "day", "expected"),
    [
        ("*/20", "*", (2026, 10, 25), "00:00 00:20 00:40 01:00 01:20 01:40 02:00 02:20 02:40"),
        ("30", "*", (2026, 10, 25), "23:30 00:30 01:30 02:30"),
        ("30", "2", (2026, 10, 25), "00:30"),
        ("0", "2,3", (2026, 10, 25), "00:00 02:00"),
        ("*/20", "*", (2026, 3, 29), "00:00 00:20 00:40 01:00 01:20 01:40 02:00 02:20 02:40"),
        ("30", "2", (2026, 3, 29), "01:30"),
    ],
)
def test_when_the_clock_is_set_no_slot_is_lost_or_comes_twice(
    hourly: PeriodicTask, minute: str, hour: str, day: tuple[int, int, int], expected: str
) -> None:
    """In Berlin 2:00 to 3:00 comes twice in autumn, and not at all in spring. A time of day is one slot then, too."""
    crontab = CrontabSchedule.objects.create(minute=minute, hour=hour, timezone="Europe/Berlin")
    PeriodicTask.objects.update(interval=None, crontab=crontab)
    midnight = datetime(*day, tzinfo=UTC)
    run_due(midnight - timedelta(minutes=31))
    for minutes in range(0, 180, 5):
        run_due(midnight + timedelta(minutes=minutes))
    due = Slot.objects.exclude(pipeline=None).order_by("at").values_list("at", flat=True)
    assert " ".join(f"{at:%H:%M}" for at in due) == expected


def test_a_schedule_that_cannot_be_read_holds_no_run_up(monkeypatch: pytest.MonkeyPatch) -> None:
    advanced: list[bool] = []

    def fail() -> None:
        raise ValueError("Nobody thought of that.")

    monkeypatch.setattr("workers.tasks.run_due", fail)
    monkeypatch.setattr("workers.tasks.advance_all", lambda: advanced.append(True))
    with pytest.raises(ValueError, match="Nobody"):
        reconcile()
    assert advanced
