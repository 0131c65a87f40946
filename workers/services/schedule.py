"""What the schedule asks for: each slot once, however many beats run and messages come or get lost.

The periodic tasks of django-celery-beat say when. Their messages are hints like all others: every round looks for the
newest slot that is past, and who records its row first launches its pipeline. Slots missed in between are not made up
for, so that after an outage of a week one re-evaluation runs, not seven.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from adapters.selectors import champion
from datasets_app.text import plain
from workers.models import Pipeline, Slot
from workers.services.arguments import bind
from workers.services.notifications import notify
from workers.services.reevaluating import reevaluate

log = logging.getLogger(__name__)

REEVALUATE = "workers.tasks.reevaluate"
MAX_DAYS = 8 * 366  # from one 29 February to the next there are at most eight years


def run_now(task: PeriodicTask, user: User | None = None) -> Pipeline:
    """Launch the task's pipeline now, in a slot of its own. InputError if there can be none."""
    at = timezone.now().replace(microsecond=0)
    with transaction.atomic():
        pipeline = reevaluate(**_wanted(task, at), user=user)
        Slot.objects.get_or_create(schedule=task.name, at=at, defaults={"pipeline": pipeline})
    return pipeline


def _wanted(task: PeriodicTask, at: datetime) -> dict[str, Any]:
    """What the task asks of `reevaluate` at that time."""
    asked = bind(task.task, json.loads(task.args or "[]"), json.loads(task.kwargs or "{}"))
    return {**asked, "pipeline": f"reevaluate-{task.pk}-{at:%Y%m%d-%H%M%S}", "seed": int(at.timestamp())}


def run_due(now: datetime | None = None) -> list[Pipeline]:
    """Launch what is due and nobody has launched."""
    now = now or timezone.now()
    launched = []
    for task in PeriodicTask.objects.filter(Q(enabled=True) | Q(one_off=True), task=REEVALUATE):
        try:
            launched += _run(task, now)
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # costs no run and no other schedule its turn
            log.exception("Schedule %s could not be looked after; the next round tries again.", task.name)
    return launched


def _run(task: PeriodicTask, now: datetime) -> list[Pipeline]:
    """Take the task's newest slot, if it is free, and launch its pipeline."""
    if (task.start_time and now < task.start_time) or (task.expires and now > task.expires):
        return []
    # Beat switches a one-off off when it has sent it, which may be before anybody looked here.
    until = now if task.enabled else task.last_run_at
    at = last_slot(task, min(now, until)) if until else None
    taken = Slot.objects.filter(schedule=task.name)
    # Slots beyond now were taken while the clock was ahead: they are not run again, and hold up none before them.
    newest = (taken if task.one_off else taken.filter(at__lte=now)).first()
    if at is None or (newest is not None and newest.at >= at):
        return []
    try:
        with transaction.atomic():
            slot = Slot.objects.create(schedule=task.name, at=at)
            if newest is None and task.clocked is None:  # one that was just made owes nothing for the time before it
                Slot.objects.filter(pk=slot.pk).update(note="The schedule began after this.")
                return []
            return _launch(task, slot)
    except IntegrityError:  # another process was first
        return []


def _launch(task: PeriodicTask, slot: Slot) -> list[Pipeline]:
    """The slot's pipeline; where there can be none, a note, and an alert: nobody would see that the watch has ended."""
    if champion() is None:
        Slot.objects.filter(pk=slot.pk).update(note="No router is live yet: there is none to evaluate.")
        return []
    try:
        pipeline = reevaluate(**_wanted(task, slot.at))
    except (DatabaseError, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        words = plain(str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")
        Slot.objects.filter(pk=slot.pk).update(note=words)
        text = f"Schedule {task.name}: what was due at {slot.at:%Y-%m-%d %H:%M} could not be launched: {words}"
        notify(f"slot-{slot.pk}", text, is_alert=True, schedule=task.name)
        return []
    Slot.objects.filter(pk=slot.pk).update(pipeline=pipeline)
    return [pipeline]


def last_slot(task: PeriodicTask, now: datetime) -> datetime | None:
    """The newest time up to `now` at which the task was due; None if there is none (or it follows the sun)."""
    if task.interval is not None:
        return last_multiple(task.interval.schedule.run_every, now)
    if task.crontab is not None:
        return last_match(task.crontab.schedule, now)
    if task.clocked is not None and task.clocked.clocked_time <= now:
        moment: datetime = task.clocked.clocked_time
        return moment
    return None


def last_multiple(every: timedelta, now: datetime) -> datetime:
    """The newest multiple of an interval, counted from 1970, so that every process finds the same."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (now - epoch) // every * every


def last_match(crontab: Any, now: datetime) -> datetime | None:
    """The newest minute up to `now` that the crontab matches, in its own time zone."""
    local = now.astimezone(crontab.tz)
    for days in range(MAX_DAYS):
        day = local.date() - timedelta(days=days)
        if (
            day.month in crontab.month_of_year
            and day.day in crontab.day_of_month
            and day.isoweekday() % 7 in crontab.day_of_week
        ):
            past = [moment for moment in _moments(crontab, day) if moment <= now]
            if past:
                return max(past)
    return None


def _moments(crontab: Any, day: date) -> Iterator[datetime]:
    """When the crontab is due on that day, in UTC. Where the clock is set back, a schedule of every hour is due both
    times that the clock shows an hour; a time of day is due once."""
    both = len(crontab.hour) == 24
    for hour, minute in product(crontab.hour, crontab.minute):
        shown = datetime(day.year, day.month, day.day, hour, minute, tzinfo=crontab.tz)
        first, second = shown.astimezone(UTC), shown.replace(fold=1).astimezone(UTC)
        yield first
        if both and second > first:  # it is earlier where the clock is set forward and never shows that time
            yield second
