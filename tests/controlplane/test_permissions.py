"""Staff may in the API what it may in the admin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient
from rest_framework.views import APIView

from datasets_app.api.permissions import StaffWrites
from tests.cast import make_experts, make_run, make_source
from workers.models import Alert, Pipeline
from workers.states import Status

WRITES = {
    "runs/": {"workers.add_run"},
    "runs/{run}/cancel/": {"workers.change_run"},
    "runs/{run}/retry/": {"workers.add_run"},
    "pipelines/": {"workers.add_pipeline"},
    "pipelines/{pipeline}/cancel/": {"workers.change_run"},
    "pipelines/{pipeline}/retry/": {"workers.add_run"},
    "alerts/{alert}/read/": {"workers.change_alert"},
    "adapters/calendar/promote/": {"adapters.change_alias"},
    "roll_back/": {"adapters.change_alias"},
    "adapters/": {"adapters.add_adapter"},
    "adapters/calendar/versions/": {"adapters.change_adapter"},
    "sources/": {"datasets_app.add_sourcedataset"},
}
KNOWN = {
    "adapters/": {"adapters.add_adapter", "adapters.change_adapter"},
    "sources/": {"datasets_app.add_sourcedataset", "datasets_app.change_sourcedataset"},
}

pytestmark = pytest.mark.django_db


def client(*permissions: str, staff: bool = True) -> APIClient:
    """Of somebody with these permissions."""
    user = User.objects.create_user(f"user-{User.objects.count()}", is_staff=staff)
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    made = APIClient()
    made.force_authenticate(user)
    return made


@pytest.mark.parametrize("path", WRITES)
def test_a_write_takes_staff_with_the_admin_s_permission(path: str) -> None:
    make_experts()
    pipeline = Pipeline.objects.create(name="first")
    run = make_run("first", Status.SUCCEEDED, pipeline=pipeline)
    alert = Alert.objects.create(key="first", level=Alert.Level.ALERT, text="x")
    url, needed = f"/api/v1/{path.format(run=run.pk, pipeline=pipeline.pk, alert=alert.pk)}", WRITES[path]
    others = {permission for permissions in WRITES.values() for permission in permissions} - needed
    for user in (client(), client(*others), client(*needed, staff=False)):
        response = user.post(url, {}, format="json")
        assert response.status_code == 403
        assert response.json()["error"]["message"] == f"Only staff with the permission {min(needed)} may do this."
    assert client(*needed).post(url, {}, format="json").status_code in {200, 201, 400}


@pytest.mark.parametrize("path", KNOWN)
def test_to_register_what_is_there_is_to_change_it(path: str, tmp_path: Any) -> None:
    make_experts()
    make_source("calendar")
    body = {"name": "calendar"} | ({"path": str(tmp_path)} if path == "sources/" else {})
    assert client(*WRITES[path]).post(f"/api/v1/{path}", body, format="json").status_code == 403
    assert client(*KNOWN[path]).post(f"/api/v1/{path}", body, format="json").status_code in {201, 400}


def views(resolver: URLResolver) -> Iterator[type[APIView]]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLPattern):
            if issubclass(view := getattr(entry.callback, "cls", object), APIView):
                yield view
        else:
            yield from views(entry)


def test_each_route_that_writes_says_what_it_needs() -> None:
    ours = [view for view in views(get_resolver()) if StaffWrites in view.permission_classes]
    writing = {view for view in ours if any(hasattr(view, method) for method in ("post", "put", "patch", "delete"))}
    assert len(writing) == len(WRITES)
    assert all(getattr(view, "needs", None) for view in writing)
