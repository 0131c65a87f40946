"""/api/v1/sources/, /routing-datasets/ and /prepared-datasets/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datasets_app.models import SourceDataset
from tests.cast import make_client, make_prepared, make_routing_dataset, make_source

SOURCES = "/api/v1/sources/"

pytestmark = pytest.mark.django_db


def test_sources_are_listed_and_shown_without_paths() -> None:
    """Where they lie is for the server to know."""
    make_source("calendar")
    client = make_client()
    (row,) = client.get(SOURCES).json()["results"]
    assert row == client.get(f"{SOURCES}calendar/").json()
    assert row["rows"] == 120
    assert "path" not in row
    assert client.get(f"{SOURCES}nobody/").status_code == 404


def test_staff_registers_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the service."""
    asked: list[Any] = []

    def register(**fields: Any) -> SourceDataset:
        asked.append(fields)
        return make_source("calendar")

    monkeypatch.setattr("datasets_app.services.register_source", register)
    response = make_client(staff=True).post(SOURCES, {"name": "calendar", "path": "/srv/calendar"}, format="json")
    assert response.status_code == 201
    assert response.json()["name"] == "calendar"
    assert asked == [{"name": "calendar", "path": "/srv/calendar", "format": "llava"}]


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "../../etc",
        "/proc/self/environ",
        "/dev/zero",
        "x" * 5000,
        "\0",
        "",
        "/etc/passwd",
        "/x" * 200 + "y" * 300,
        "~nobody/x",
        5,
        None,
    ],
)
def test_what_is_no_dataset_is_400(path: Any) -> None:
    """Whatever it is."""
    response = make_client(staff=True).post(SOURCES, {"name": "calendar", "path": path}, format="json")
    assert response.status_code == 400, response.content
    assert not SourceDataset.objects.exists()


def test_a_link_to_itself_is_400(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    response = make_client(staff=True).post(SOURCES, {"name": "calendar", "path": f"{tmp_path}/loop"}, format="json")
    assert response.status_code == 400, response.content


def test_readers_register_nothing() -> None:
    """403."""
    assert make_client().post(SOURCES, {"name": "x", "path": "/etc"}, format="json").status_code == 403


def test_routing_datasets_are_listed_and_shown() -> None:
    """With their metadata."""
    dataset = make_routing_dataset()
    client = make_client()
    (row,) = client.get("/api/v1/routing-datasets/").json()["results"]
    assert row == client.get(f"/api/v1/routing-datasets/{dataset.name}/").json()
    assert row["metadata"]["counts"]["train"] == {"calendar": 80, "claim-window": 80}
    assert row["sources"] == ["calendar", "claim-window"]


def test_prepared_datasets_are_listed() -> None:
    """With what they were made of."""
    dataset = make_routing_dataset()
    make_prepared(dataset)
    (row,) = make_client().get("/api/v1/prepared-datasets/").json()["results"]
    assert row["dataset"] == dataset.name
