"""/api/v1/runs/."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cast import make_client, make_routing_dataset, make_run
from workers.models import Run
from workers.states import Status

URL = "/api/v1/runs/"

pytestmark = pytest.mark.django_db


def test_runs_are_listed_by_kind_and_status() -> None:
    """All, or some."""
    make_run("a", status=Status.SUCCEEDED)
    make_run("b", kind=Run.Kind.TRAIN)
    client = make_client()
    assert client.get(URL).json()["count"] == 2
    assert [row["name"] for row in client.get(URL, {"status": "succeeded"}).json()["results"]] == ["a"]
    assert [row["name"] for row in client.get(URL, {"kind": "train"}).json()["results"]] == ["b"]
    assert [row["name"] for row in client.get(URL, {"name": "b"}).json()["results"]] == ["b"]


def test_a_run_is_shown_with_its_attempts_and_progress() -> None:
    """And without the backend's handle."""
    run = make_run(progress={"step": "train", "done": 3, "total": 10})
    run.attempts.create(number=1, handle="/srv/jobs/1", outcome="lost", error="Killed.")
    shown = make_client().get(f"{URL}{run.pk}/").json()
    assert shown["progress"] == {"step": "train", "done": 3, "total": 10}
    assert [(attempt["number"], attempt["outcome"]) for attempt in shown["attempts"]] == [(1, "lost")]
    assert "handle" not in shown["attempts"][0]


def test_staff_launches_a_run() -> None:
    """It is queued under its name; the same wish again finds it."""
    dataset = make_routing_dataset()
    client = make_client(staff=True)
    body = {"kind": "preprocess", "name": "prep", "params": {"dataset": dataset.name}}
    first, second = client.post(URL, body, format="json"), client.post(URL, body, format="json")
    assert first.status_code == second.status_code == 201, first.content
    assert first.json()["id"] == second.json()["id"]
    assert first.json()["status"] == "queued"
    assert first.json()["created_by"] == "staff"


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "preprocess"},
        {"kind": "preprocess", "params": {"dataset": "nobody"}},
        {"kind": "preprocess", "params": {"dataset": 5}},
        {"kind": "preprocess", "params": {"dataset": "x", "extra": 1}},
        {"kind": "generate_dataset", "params": {"adapters": []}},
        {"kind": "generate_dataset", "params": {"adapters": ["nobody"]}},
        {"kind": "train", "params": {"dataset": "nobody"}},
        {"kind": "evaluate", "params": {"dataset": "x"}},
        {"kind": "preprocess", "params": {"dataset": "x"}, "backend": "nowhere"},
        {"kind": "preprocess", "params": {"dataset": "x"}, "priority": 1},
    ],
)
def test_a_wrong_wish_is_400(body: Any) -> None:
    """And queues nothing."""
    response = make_client(staff=True).post(URL, body, format="json")
    assert response.status_code == 400, response.content
    assert not Run.objects.exists()


def test_staff_cancels_a_run() -> None:
    """A queued one at once; one that is over stays as it is."""
    client = make_client(staff=True)
    queued, over = make_run("a"), make_run("b", status=Status.SUCCEEDED)
    assert client.post(f"{URL}{queued.pk}/cancel/").json()["status"] == "cancelled"
    assert client.post(f"{URL}{over.pk}/cancel/").json()["status"] == "succeeded"
    assert client.post(f"{URL}99/cancel/").status_code == 404


def test_readers_launch_and_cancel_nothing() -> None:
    """403."""
    run = make_run()
    client = make_client()
    assert client.post(URL, {"kind": "preprocess"}, format="json").status_code == 403
    assert client.post(f"{URL}{run.pk}/cancel/").status_code == 403
    assert Run.objects.get().status == Status.QUEUED


def test_the_log_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON, so that no browser takes it for a page."""
    monkeypatch.setattr("workers.services.log_tail", lambda run, lines: "<script>\n")
    response = make_client().get(f"{URL}{make_run().pk}/log/")
    assert response.json() == {"log": "<script>\n"}
    assert response["Content-Type"] == "application/json"
    assert response["X-Content-Type-Options"] == "nosniff"
