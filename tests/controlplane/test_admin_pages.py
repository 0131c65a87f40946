"""Every page of the admin answers, and shows nothing to people without the permission."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from adapters.models import Promotion
from controlplane.periodic_admin import PeriodicTaskForm
from tests.cast import (
    make_champion,
    make_evaluation,
    make_prepared,
    make_routing_dataset,
    make_run,
)
from workers.models import Alert, Notification, Pipeline, Run, Slot
from workers.states import Status

MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
OURS = {"adapters", "datasets_app", "workers"}
NASTY = "<script>alert(1)</script>"

pytestmark = pytest.mark.django_db


@pytest.fixture
def everything() -> Iterator[None]:
    """A row of everything, with markup wherever somebody may write."""
    stack = make_champion()
    dataset = make_routing_dataset()
    pipeline = Pipeline.objects.create(name="first")
    make_run(
        "first",
        Status.FAILED,
        kind=Run.Kind.TRAIN,
        pipeline=pipeline,
        error=NASTY,
        params={"dataset": NASTY},
        summary={"note": NASTY},
        progress={"step": NASTY, "done": 1, "total": 2, "metrics": {"loss": 0.5}},
        adapter_version=stack.router,
        prepared_dataset=make_prepared(dataset),
    ).attempts.create(number=1, error=NASTY)
    make_run("second", Status.RUNNING, progress={"step": NASTY, "done": 1, "total": 2})
    Promotion.objects.create(stack=stack, previous=stack, evaluation=make_evaluation(stack.router), reason=NASTY)
    alert = Alert.objects.create(key="first", level=Alert.Level.ALERT, text=NASTY, details={"verdict": NASTY})
    Notification.objects.create(alert=alert, channel=Notification.Channel.EMAIL, error=NASTY)
    Slot.objects.create(schedule=NASTY, at=timezone.now(), pipeline=pipeline, note=NASTY)
    stack.router.adapter.description = NASTY
    stack.router.adapter.save()
    yield


@pytest.fixture
def superuser(client: Client) -> Client:
    """May do everything."""
    client.force_login(User.objects.create_superuser("root"))
    return client


def url(model: type[Model], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def safe(content: str) -> bool:
    return NASTY not in content


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_pages(superuser: Client, everything: None, model: type[Model]) -> None:
    """The list, a search in it, the form, and the page of each row."""
    assert superuser.get(url(model, "changelist") + "?q=%00").status_code == 400
    for query in ("", "?q=a", "?status=nonsense", "?o=99"):
        response = superuser.get(url(model, "changelist") + query)
        assert response.status_code in {200, 302}, query
        assert safe(response.content.decode())
    assert superuser.get(url(model, "add")).status_code in {200, 403}
    rows = model._default_manager.all()
    assert rows or model._meta.app_label not in OURS
    for row in rows:
        response = superuser.get(url(model, "change", row.pk))
        assert response.status_code == 200
        assert safe(response.content.decode())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_an_action_on_what_can_be_no_row_is_a_message(superuser: Client, everything: None, model: type[Model]) -> None:
    form = superuser.get(url(model, "changelist")).context.get("action_form")
    for action, _ in form.fields["action"].choices if form else ():
        for chosen in ("x", "9" * 30, "9" * 5000, "é"):
            data = {"action": action, "_selected_action": chosen, "index": "0"}
            response = superuser.post(url(model, "changelist"), data)
            assert response.status_code in {200, 302}, (action, chosen[:30])


@pytest.mark.parametrize(
    "kwargs", ['{"rollback": NaN}', r'{"rollback": "\ud800"}', r'{"a\u0000": 1}', "[" * 100_000, "no"]
)
def test_a_schedule_with_arguments_that_nobody_takes_is_refused(db: None, kwargs: str) -> None:
    """In the form, with the reason."""
    wish = {"name": "nightly", "task": "workers.tasks.reevaluate", "args": "[]", "kwargs": kwargs}
    assert "kwargs" in PeriodicTaskForm(wish).errors


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_staff_without_permissions_sees_nothing(client: Client, model: type[Model]) -> None:
    """403."""
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    assert client.get(url(model, "changelist")).status_code == 403


def test_people_who_are_not_staff_are_sent_to_the_log_in(client: Client) -> None:
    """They have the API."""
    client.force_login(User.objects.create_user("reader"))
    assert client.get("/admin/").status_code == 302


def test_logging_in_leads_to_the_start_page(client: Client) -> None:
    """Where no other page was asked for."""
    User.objects.create_superuser("root", password="correct horse")
    response = client.post("/admin/login/", {"username": "root", "password": "correct horse"})
    assert response["Location"] == "/admin/"


def test_the_start_page(superuser: Client) -> None:
    """With the navigation."""
    page = superuser.get("/admin/").content.decode()
    assert "Switchyard" in page
    assert "Pipelines" in page


HEADER = re.compile(r'href="([^"]+)"[^>]*title="Unread alerts"[^>]*>.*?</span>\s*(\d+)\s*</a>', re.DOTALL)


def test_the_header_counts_the_unread_alerts_and_leads_to_them(superuser: Client) -> None:
    for key, level in (("first", Alert.Level.ALERT), ("second", Alert.Level.INFO), ("third", Alert.Level.INFO)):
        Alert.objects.create(key=key, level=level, text=f"Text of the {key}.")

    def header() -> tuple[str, ...]:
        (found,) = HEADER.findall(superuser.get("/admin/").content.decode())
        return tuple(found)

    (listed, count) = header()
    assert count == "3"
    rows = superuser.get(listed).content.decode()
    assert "Text of the first." in rows
    first = {"action": "mark_read", "_selected_action": [Alert.objects.get(key="first").pk]}
    superuser.post(url(Alert, "changelist"), first)
    assert header() == (listed, "2")
    assert "Text of the first." not in superuser.get(listed).content.decode()


def test_the_header_counts_nothing_for_people_who_may_not_see_alerts(client: Client) -> None:
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    page = client.get("/admin/")
    assert page.status_code == 200
    assert "Unread alerts" not in page.content.decode()
