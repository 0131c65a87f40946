"""The platform on a full disk: nothing is lost, and everything goes on when there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import connection

from datasets_app.room import FULL
from tests.cast import make_client
from tests.full_disk import full_disk
from workers.models import Run
from workers.services import advance_all, launch
from workers.states import Status

Drive = Callable[..., Run]


def test_a_launch_waits_for_room(generate: dict[str, object], drive: Drive) -> None:
    run = launch("generate_dataset", generate, name="routing_later")
    with full_disk(0):
        advance_all()
    run.refresh_from_db()
    assert (run.status, run.trouble) == (Status.LAUNCHING, FULL)
    Run.objects.update(lease_until=None)
    run = drive(run)
    assert (run.status, run.attempts.count()) == (Status.SUCCEEDED, 1), run.error


@pytest.fixture
def full_database(db: None) -> Iterator[None]:
    """SQLite's own way to be full: no page more than there are."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL cannot be told to be full.")
    with connection.cursor() as cursor:
        (pages,) = cursor.execute("PRAGMA page_count").fetchone()
        (before,) = cursor.execute("PRAGMA max_page_count").fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        yield
        cursor.execute(f"PRAGMA max_page_count = {before}")


def test_what_cannot_be_committed_is_refused_in_one_sentence(experts: list[str], full_database: None) -> None:
    body = {"kind": "generate_dataset", "params": {"adapters": experts, "system": "x" * 100_000}}
    client = make_client(staff=True)
    response = client.post("/api/v1/runs/", body, format="json")
    assert (response.status_code, response.json()["error"]["message"]) == (507, FULL)
    assert not Run.objects.exists()
