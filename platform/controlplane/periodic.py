"""Which periodic tasks beat can run, and which are the platform's own."""

from __future__ import annotations

from datetime import timedelta

from celery import current_app
from django.conf import settings
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask
from kombu.utils.json import loads

from datasets_app.errors import InputError
from datasets_app.strict_json import parse
from workers.services.arguments import bind

OWN = frozenset(settings.CELERY_BEAT_SCHEDULE)
WHY = "it is the platform's own, which stands still without it."
INTERVALS = timedelta(seconds=1), timedelta(days=3660)
FIELDS: dict[str, tuple[type, str]] = {"args": (list, "[]"), "kwargs": (dict, "{}"), "headers": (dict, "{}")}


def is_own(task: PeriodicTask | None) -> bool:
    """Whether beat makes the row itself, from the settings."""
    return task is not None and task.name in OWN


def send(task: PeriodicTask) -> None:
    """Send the task's message now. InputError if beat could not either, what Celery raises if the broker takes none."""
    check(task)
    args, kwargs = loads(task.args or "[]"), loads(task.kwargs or "{}")
    options = {"queue": task.queue} if task.queue else {}
    current_app.tasks[task.task].apply_async(args, kwargs, **options)


def check(task: PeriodicTask) -> None:
    """InputError unless beat can run the task as its row is."""
    for field in FIELDS:
        check_json(field, getattr(task, field))
    check_arguments(task.task, task.args, task.kwargs)
    if task.solar is not None:
        raise InputError("solar: schedules that follow the sun are not supported.")
    if task.scheduler is None:
        raise InputError("interval, crontab, clocked: one of them is needed.")
    check_times(task.scheduler)


def check_json(field: str, text: str | None) -> None:
    """InputError unless the field's text, if there is any, is JSON of the right type that Celery can read."""
    wanted, empty = FIELDS[field]
    try:
        parse(text or empty)
        value = loads(text or empty)
    except InputError as error:
        raise InputError(f"{field}: {error}") from error
    except Exception as error:  # of the types that kombu knows by name
        raise InputError(f"{field}: Celery cannot read this: {error}") from error
    if not isinstance(value, wanted):
        raise InputError(f"{field}: a {wanted.__name__} is needed, as {empty}.")


def check_arguments(task: str, args: str | None, kwargs: str | None) -> None:
    """InputError unless there is such a task, and it takes these arguments."""
    bind(task, loads(args or "[]"), loads(kwargs or "{}"))


def check_times(times: IntervalSchedule | CrontabSchedule | ClockedSchedule) -> None:
    """InputError unless there is a next time, and an interval is neither too short nor too long to be one."""
    try:
        schedule = times.schedule
        if isinstance(times, IntervalSchedule) and not INTERVALS[0] <= schedule.run_every <= INTERVALS[1]:
            raise OverflowError
        schedule.is_due(timezone.now())
    except OverflowError as error:
        raise InputError("every: an interval lasts from a second to ten years.") from error
    except Exception as error:  # whatever a library says of what can be no time
        raise InputError(f"There is no such time: {error}") from error
