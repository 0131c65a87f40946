"""What people may make of the schedule in the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.forms import ModelForm
from django.test import Client
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from controlplane.beat import Scheduler

pytestmark = pytest.mark.django_db

BASE = "/admin/django_celery_beat"
WISH = {"name": "nightly", "regtask": "workers.tasks.prune", "task": "", "enabled": "on", "args": "[]", "kwargs": "{}"}
CRONTAB = {"minute": "0", "hour": "3", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*", "timezone": "UTC"}


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def hours() -> IntervalSchedule:
    return IntervalSchedule.objects.create(every=6, period="hours")


def errors(client: Client, model: str, wish: dict[str, Any], pk: int | None = None) -> dict[str, list[str]]:
    """What the form refuses; nothing if it is saved."""
    inlines = {"periodictask_set-TOTAL_FORMS": "0", "periodictask_set-INITIAL_FORMS": "0"}
    response = client.post(f"{BASE}/{model}/{f'{pk}/change' if pk else 'add'}/", wish | inlines)
    if response.status_code == 302:
        return {}
    assert response.status_code == 200
    form: ModelForm[Any] = response.context["adminform"].form
    return {field: list(found) for field, found in form.errors.items()}


def test_a_schedule_that_beat_can_run_is_saved(root: Client, hours: IntervalSchedule) -> None:
    assert errors(root, "periodictask", {**WISH, "interval": hours.pk, "headers": "[1]", "queue": "x"}) == {}
    task = PeriodicTask.objects.get(name="nightly")
    assert (task.task, task.headers, task.queue) == ("workers.tasks.prune", "{}", None)
    assert errors(root, "periodictask", {**WISH, "interval": hours.pk, "kwargs": '{"a": 1}'}, task.pk) == {}
    task.refresh_from_db()
    assert task.kwargs == '{"a": 1}'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("args", "5"),
        ("args", '{"a": 1}'),
        ("kwargs", "[1]"),
        ("kwargs", '{"a": {"__type__": "datetime", "__value__": 5}}'),
        ("task", "x" * 201),
    ],
)
def test_arguments_that_no_task_takes_are_refused_by_the_field(
    root: Client, hours: IntervalSchedule, field: str, value: str
) -> None:
    assert field in errors(
        root, "periodictask", {**WISH, "regtask": "", "task": "x", "interval": hours.pk, field: value}
    )


@pytest.mark.parametrize("times", [{"every": 2_147_483_647, "period": "days"}, {"every": 1, "period": "microseconds"}])
def test_intervals_last_from_a_second_to_ten_years(
    root: Client, hours: IntervalSchedule, times: dict[str, Any]
) -> None:
    sentence = "every: an interval lasts from a second to ten years."
    assert errors(root, "intervalschedule", times) == {"__all__": [sentence]}
    assert errors(root, "intervalschedule", times, hours.pk) == {"__all__": [sentence]}
    old = IntervalSchedule.objects.create(**times)
    assert errors(root, "periodictask", {**WISH, "interval": old.pk})["interval"] == [sentence]


def test_a_day_that_never_comes_is_refused(root: Client) -> None:
    february = {**CRONTAB, "day_of_month": "30", "month_of_year": "2"}
    (sentence,) = errors(root, "crontabschedule", february)["__all__"]
    assert sentence.startswith("There is no such time: ")
    assert errors(root, "crontabschedule", CRONTAB) == {}
    old = CrontabSchedule.objects.create(**february)
    assert "crontab" in errors(root, "periodictask", {**WISH, "crontab": old.pk})


@pytest.mark.parametrize("year", ["0001", "2030", "9999"])
def test_a_moment_of_any_year_stops_nothing(root: Client, year: str) -> None:
    errors(root, "clockedschedule", {"clocked_time_0": f"{year}-01-01", "clocked_time_1": "00:00:00"})
    for moment in ClockedSchedule.objects.all():
        assert errors(root, "periodictask", {**WISH, "clocked": moment.pk, "one_off": "on"}) == {}
        assert root.get(f"{BASE}/clockedschedule/").status_code == 200
        assert root.get(f"{BASE}/periodictask/").status_code == 200


def test_the_sun_is_not_offered_and_a_row_that_follows_it_can_be_given_hours(
    root: Client, hours: IntervalSchedule
) -> None:
    assert not admin.site.is_registered(SolarSchedule)
    sun = SolarSchedule.objects.create(event="sunrise", latitude=50, longitude=10)
    task = PeriodicTask.objects.create(name="nightly", task="workers.tasks.prune", solar=sun)
    assert "solar" not in root.get(f"{BASE}/periodictask/{task.pk}/change/").context["adminform"].form.fields
    assert errors(root, "periodictask", {**WISH, "interval": hours.pk}, task.pk) == {}
    assert set(Scheduler.Entry(PeriodicTask.objects.get(name="nightly")).options) == {"headers"}
