"""/api/v1/adapters/."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.models import Adapter, BaseModel
from datasets_app.errors import InputError
from tests.cast import make_base, make_client, make_experts, make_router, make_source

URL = "/api/v1/adapters/"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configured base, without its files."""
    monkeypatch.setattr("adapters.services.configured_base", make_base)


def test_adapters_are_listed_by_kind() -> None:
    """All, or those of one kind."""
    make_experts()
    make_router()
    client = make_client()
    assert client.get(URL).json()["count"] == 3
    routers = client.get(URL, {"kind": "router"}).json()["results"]
    assert [(row["name"], row["current"]) for row in routers] == [("router", 1)]
    assert client.get(URL, {"kind": "nonsense"}).status_code == 400


def test_one_is_shown_with_its_versions() -> None:
    """Where its files lie is nobody's business."""
    make_experts()
    client = make_client()
    assert client.get(f"{URL}calendar/").json()["source"] == "calendar"
    (version,) = client.get(f"{URL}calendar/versions/").json()["results"]
    assert version == client.get(f"{URL}calendar/versions/1/").json()
    assert version["facts"]["rank"] == 16
    assert "path" not in version


@pytest.mark.parametrize("path", ["nobody/", "nobody/versions/", "calendar/versions/7/", f"calendar/versions/{9**40}/"])
def test_what_is_not_there_is_404(path: str) -> None:
    """In the one shape."""
    make_experts()
    response = make_client().get(URL + path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_staff_registers_an_adapter() -> None:
    """With its source."""
    make_source("calendar")
    body = {"name": "calendar", "source": "calendar", "description": "Dates."}
    response = make_client(staff=True).post(URL, body, format="json")
    assert response.status_code == 201, response.content
    assert response.json()["kind"] == "expert"
    assert Adapter.objects.get().source == make_source("calendar")


def test_files_come_with_it_or_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken files leave no adapter behind."""

    def broken(path: str, kind: str, base: BaseModel, card: object) -> None:
        raise InputError("config.json is missing.")

    monkeypatch.setattr("adapters.services.store_files", broken)
    client = make_client(staff=True)
    assert client.post(URL, {"name": "calendar", "path": "/srv/x"}, format="json").status_code == 400
    assert not Adapter.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "none"},
        {"name": "../x"},
        {"name": "Calendar"},
        {"name": "calendar\n"},
        {"name": "сalendar"},
        {"name": 5},
        {"name": "x", "kind": "boss"},
        {"name": "x", "source": "nobody"},
        {"name": "x", "base": "other"},
        {"name": "x", "current": 1},
        {"name": "x", "path": "/x\0"},
        {"name": "x", "path": "/" + "x" * 300},
        {"name": "x", "path": "~nobody-here/x"},
        {"name": "x", "path": "/dev/null/x"},
        [],
    ],
)
def test_wrong_input_is_400(body: Any) -> None:
    """And registers nothing."""
    response = make_client(staff=True).post(URL, body, format="json")
    assert response.status_code == 400
    assert response.json()["error"]["message"]
    assert not Adapter.objects.exists()


def test_readers_register_nothing() -> None:
    """403, for adapters and versions."""
    make_experts()
    client = make_client()
    assert client.post(URL, {"name": "x"}, format="json").status_code == 403
    assert client.post(f"{URL}calendar/versions/", {"path": "/etc"}, format="json").status_code == 403
