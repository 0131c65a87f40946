"""What people may make of the schedule in the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.forms import ModelForm
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from controlplane.beat import Scheduler
from controlplane.celery import app
from workers.models import Pipeline, Slot
from workers.services.schedule import REEVALUATE
from workers.tasks import prune

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
    rollback = {"regtask": "workers.tasks.reevaluate", "kwargs": '{"rollback": true}'}
    assert errors(root, "periodictask", {**WISH, "interval": hours.pk, **rollback}, task.pk) == {}
    task.refresh_from_db()
    assert task.kwargs == '{"rollback": true}'


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


@pytest.mark.parametrize(
    ("task", "arguments", "field", "sentence"),
    [
        (
            "reevaluate",
            {"kwargs": '{"fresh_sample": 3}'},
            "kwargs",
            "takes no 'fresh_sample'; it takes fresh_samples, ",
        ),
        ("reevaluate", {"kwargs": '{"fresh_samples": -1}'}, "kwargs", "fresh_samples: Input should be greater than or"),
        (
            "reevaluate",
            {"kwargs": '{"fresh_samples": "3"}'},
            "kwargs",
            "fresh_samples: Input should be a valid int",
        ),
        ("reevaluate", {"kwargs": '{"rollback": 1}'}, "kwargs", "rollback: Input should be a valid boolean"),
        ("reevaluate", {"args": '["x"]'}, "args", "fresh_samples: Input should be a valid int"),
        ("reevaluate", {"args": "[1, true, 2]"}, "args", "workers.tasks.reevaluate takes 2 arguments at most"),
        ("reevaluate", {"args": "[1]", "kwargs": '{"fresh_samples": 3}'}, "kwargs", "fresh_samples is among args"),
        ("prune", {"kwargs": '{"dry_run": true}'}, "kwargs", "takes no 'dry_run'; it takes no arguments."),
        ("advance_long", {}, "kwargs", "pk: Field required"),
        ("pruned", {}, "task", "there is none of the name 'workers.tasks.pruned'."),
    ],
)
def test_a_schedules_arguments_are_those_that_its_task_declares(
    root: Client, hours: IntervalSchedule, task: str, arguments: dict[str, str], field: str, sentence: str
) -> None:
    wish = {**WISH, "regtask": "", "task": f"workers.tasks.{task}", "interval": hours.pk, **arguments}
    found = errors(root, "periodictask", wish)
    assert list(found) == [field]
    assert sentence in found[field][0]
    assert not PeriodicTask.objects.filter(name="nightly").exists()


def test_running_a_re_evaluation_launches_it(
    root: Client, hours: IntervalSchedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(pipeline: str, seed: int, user: User, **wish: Any) -> Pipeline:
        return Pipeline.objects.create(name=pipeline, kind=Pipeline.Kind.REEVALUATE, wish=wish, created_by=user)

    monkeypatch.setattr("workers.services.schedule.reevaluate", launch)
    night = PeriodicTask.objects.create(name="night", task=REEVALUATE, interval=hours, kwargs='{"rollback": true}')
    (message,) = act(root, "run_tasks", night)
    pipeline = Pipeline.objects.get()
    assert pipeline.name in message
    assert pipeline.wish == {"fresh_samples": None, "rollback": True}
    assert Slot.objects.get(schedule="night").pipeline == pipeline


def test_a_re_evaluation_of_nothing_is_refused_with_the_reason(root: Client, hours: IntervalSchedule) -> None:
    night = PeriodicTask.objects.create(name="night", task=REEVALUATE, interval=hours)
    assert act(root, "run_tasks", night) == ["night: No router is live yet: there is none to evaluate."]


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


ACTIONS = ("enable_tasks", "disable_tasks", "toggle_tasks", "run_tasks")


def act(client: Client, action: str, *tasks: PeriodicTask) -> list[str]:
    """What the admin says of the action."""
    chosen = {"action": action, "_selected_action": [task.pk for task in tasks]}
    response = client.post(f"{BASE}/periodictask/", chosen, follow=True)
    assert response.status_code == 200
    return [str(message) for message in response.context["messages"]]


@pytest.fixture
def own() -> PeriodicTask:
    """A row that beat makes."""
    Scheduler(app=app)._finalize.cancel()
    return PeriodicTask.objects.get(name="reconcile")


@pytest.fixture
def nightly(hours: IntervalSchedule) -> PeriodicTask:
    """A row of people's."""
    return PeriodicTask.objects.create(name="nightly", task="workers.tasks.prune", interval=hours)


def staff(client: Client, *permissions: str) -> Client:
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


@pytest.mark.parametrize("action", ACTIONS)
def test_who_may_only_look_changes_nothing(client: Client, nightly: PeriodicTask, action: str) -> None:
    clerk = staff(client, "view_periodictask")
    assert clerk.get(f"{BASE}/periodictask/").status_code == 200
    assert not any("successfully" in words or "sent" in words for words in act(clerk, action, nightly))
    nightly.refresh_from_db()
    assert nightly.enabled


def test_who_may_change_schedules_switches_people_s_off_and_on(client: Client, nightly: PeriodicTask) -> None:
    clerk = staff(client, "view_periodictask", "change_periodictask")
    for action, enabled in (("disable_tasks", False), ("enable_tasks", True), ("toggle_tasks", False)):
        assert "1 task was successfully" in act(clerk, action, nightly)[0]
        nightly.refresh_from_db()
        assert nightly.enabled is enabled


@pytest.mark.parametrize("action", ["disable_tasks", "toggle_tasks", "delete_selected"])
def test_nobody_switches_the_platform_off(root: Client, own: PeriodicTask, nightly: PeriodicTask, action: str) -> None:
    assert "reconcile stays as it is: it is the platform's own" in act(root, action, own, nightly)[0]
    own.refresh_from_db()
    assert own.enabled
    assert PeriodicTask.objects.get(name="nightly").enabled is (action == "delete_selected")


def test_the_platform_s_own_rows_and_their_intervals_are_only_looked_at(root: Client, own: PeriodicTask) -> None:
    assert own.interval is not None
    page = root.get(f"{BASE}/periodictask/{own.pk}/change/")
    assert "The platform&#x27;s own" in page.content.decode() or "The platform's own" in page.content.decode()
    for model, pk in (("periodictask", own.pk), ("intervalschedule", own.interval.pk)):
        assert root.post(f"{BASE}/{model}/{pk}/change/", {"every": "5", "period": "days"}).status_code == 403
        assert root.post(f"{BASE}/{model}/{pk}/delete/", {"post": "yes"}).status_code in {200, 403}
    own.refresh_from_db()
    assert str(own.interval) == "every 2 seconds"


def test_what_was_switched_off_in_the_database_is_on_when_beat_starts(own: PeriodicTask) -> None:
    PeriodicTask.objects.update(enabled=False, one_off=True, start_time=timezone.now() + timedelta(days=9))
    assert "reconcile" in Scheduler(app=app).schedule


def test_running_a_schedule_sends_its_message(
    root: Client, nightly: PeriodicTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(prune, "apply_async", lambda *words, **options: sent.append((words, options)))
    assert act(root, "run_tasks", nightly) == ["nightly: sent."]
    assert sent == [(([], {}), {})]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"kwargs": "[1]"}, "nightly: kwargs: a dict is needed, as {}."),
        ({"args": "5"}, "nightly: args: a list is needed, as []."),
        ({"args": "[1]"}, "nightly: "),
        ({"task": "x"}, "nightly: task: there is none of the name 'x'."),
        ({}, "nightly: the broker takes no message: "),
    ],
)
def test_what_cannot_be_sent_is_a_message(root: Client, nightly: PeriodicTask, row: dict[str, str], words: str) -> None:
    PeriodicTask.objects.filter(pk=nightly.pk).update(**row)
    (message,) = act(root, "run_tasks", nightly)
    assert message.startswith(words)
