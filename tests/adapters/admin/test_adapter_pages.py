"""Registering adapters, and reading reports, in the admin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from adapters.models import Adapter, BaseModel
from datasets_app.errors import InputError
from tests.cast import make_base, make_evaluation, make_experts, make_source, make_version

ADAPTERS = "/admin/adapters/adapter/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """May do everything."""
    monkeypatch.setattr("adapters.services.configured_base", make_base)
    monkeypatch.setattr("adapters.admin.adapters.configured_base", make_base)
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_an_adapter_is_registered(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its source and files."""
    monkeypatch.setattr("adapters.admin.adapters.store_files", lambda path, kind, base: path)
    monkeypatch.setattr("adapters.admin.adapters.record_version", lambda adapter, files: make_version(adapter))
    data = {
        "name": "calendar",
        "kind": "expert",
        "source": make_source("calendar").pk,
        "description": "",
        "files": "/x",
    }
    assert root.post(f"{ADAPTERS}add/", data).status_code == 302
    adapter = Adapter.objects.get()
    assert adapter.source == make_source("calendar")
    assert adapter.current is not None


def test_broken_files_register_nothing(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are explained."""

    def broken(path: str, kind: str, base: BaseModel) -> None:
        raise InputError("config.json is <b>missing</b>.")

    monkeypatch.setattr("adapters.admin.adapters.store_files", broken)
    data = {"name": "calendar", "kind": "expert", "description": "", "files": "/x"}
    response = root.post(f"{ADAPTERS}add/", data)
    form = response.context["adminform"].form
    assert form.errors == {"files": ["config.json is <b>missing</b>."]}
    assert (form["name"].value(), form["files"].value()) == ("calendar", "/x")
    assert "config.json is &lt;b&gt;missing&lt;/b&gt;." in response.content.decode()
    assert not Adapter.objects.exists()


@pytest.mark.parametrize("name", ["none", "../x", "Calendar", "сalendar", "", "x" * 65])
def test_wrong_names_are_explained(root: Client, name: str) -> None:
    """And register nothing."""
    data = {"name": name, "kind": "expert", "description": "", "files": ""}
    assert root.post(f"{ADAPTERS}add/", data, follow=True).status_code == 200
    assert not Adapter.objects.exists()


def test_the_current_version_is_chosen(root: Client) -> None:
    """Among the adapter's own."""
    first, other = make_experts()
    adapter = first.adapter
    make_version(adapter)
    data: dict[str, Any] = {"source": adapter.source_id, "current": first.pk, "files": ""}
    assert root.post(f"{ADAPTERS}{adapter.pk}/change/", data).status_code == 302
    adapter.refresh_from_db()
    assert adapter.current == first
    assert root.post(f"{ADAPTERS}{adapter.pk}/change/", {**data, "current": other.pk}).status_code == 200
    adapter.refresh_from_db()
    assert adapter.current == first


def test_versions_are_immutable(root: Client) -> None:
    """For everybody."""
    version = make_experts()[0]
    page = f"/admin/adapters/adapterversion/{version.pk}/"
    assert root.post(f"{page}change/", {"digest": "x"}).status_code == 403
    assert root.post(f"{page}delete/", {"post": "yes"}).status_code == 403


def test_a_report_is_shown_in_a_sandbox(root: Client, settings: Any, tmp_path: Path) -> None:
    """No scripts, no network, and nothing outside the data folder."""
    settings.DATA_ROOT = tmp_path / "data"
    folder = tmp_path / "data/evaluations/1"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<h1>95%</h1>")
    inside = make_evaluation(make_experts()[0], str(folder))
    response = root.get(f"/admin/adapters/evaluation/{inside.pk}/report/")
    assert response.content == b"<h1>95%</h1>"
    assert response["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert response["X-Content-Type-Options"] == "nosniff"
    (tmp_path / "report.html").write_text("secret")
    outside = make_evaluation(inside.version, str(tmp_path))
    assert root.get(f"/admin/adapters/evaluation/{outside.pk}/report/").status_code == 404
    assert root.get("/admin/adapters/evaluation/99/report/").status_code == 404
