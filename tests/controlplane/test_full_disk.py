"""Pages on a full disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from datasets_app.room import FULL


@pytest.fixture
def full_database(transactional_db: None) -> Iterator[None]:
    """SQLite's own way to be full: no page more than there are, and each of them filled."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL cannot be told to be full.")
    User.objects.create_superuser("root", password="correct horse")
    with connection.cursor() as cursor:
        (pages,) = cursor.execute("PRAGMA page_count").fetchone()
        (before,) = cursor.execute("PRAGMA max_page_count").fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        for size in (3000, 300, 30):
            with suppress(OperationalError):
                for number in range(10_000):
                    made = {"session_key": f"{size}-{number}", "session_data": "x" * size}
                    Session.objects.create(**made, expire_date=timezone.now())
        yield
        cursor.execute(f"PRAGMA max_page_count = {before}")


def test_a_log_in_says_that_the_disk_is_full(client: Client, full_database: None) -> None:
    client.raise_request_exception = False
    response = client.post("/admin/login/", {"username": "root", "password": "correct horse"})
    assert (response.status_code, response.content.decode()) == (507, FULL)
    assert response["Content-Type"] == "text/plain"
