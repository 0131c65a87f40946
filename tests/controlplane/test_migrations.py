"""What an upgrade makes of the rows that are there."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from controlplane.env import ROOT

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def sql(tmp_path: Path) -> Sql:
    """A statement on the installation's database."""

    def execute(statement: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database, database:
            return database.execute(statement, values).fetchall()

    return execute


@pytest.fixture
def migrate(tmp_path: Path) -> Callable[..., None]:
    """`manage.py migrate`, in an installation of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHYARD_")}
    variables = kept | {"SWITCHYARD_DATA": str(tmp_path), "DATABASE_URL": ""}

    def run(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "manage.py", "migrate", *words], cwd=ROOT, env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    return run


def test_what_was_told_becomes_an_alert_which_is_read_if_a_channel_took_it(
    migrate: Callable[..., None], sql: Sql
) -> None:
    migrate("workers", "0013")
    now, told = "2026-03-01 00:00:00", {"key": "fell", "level": "alert", "text": "It fell.", "accuracy": 0.5}
    insert = """INSERT INTO workers_notice (key, channel, subject, payload, tries, due_at, sent_at, error, created_at)
                VALUES (?, ?, ?, ?, 1, ?, ?, '', ?)"""
    for channel, sent in (("email", now), ("webhook", None)):
        sql(insert, "fell", channel, "It fell.", json.dumps(told), now, sent, now)
    sql(insert, "late", "email", "Late.", "{}", now, None, now)
    migrate()
    rows = sql("SELECT key, level, text, details, created_at, read_at FROM workers_alert ORDER BY id")
    assert rows == [
        ("fell", "alert", "It fell.", '{"accuracy": 0.5}', now, now),
        ("late", "info", "Late.", "{}", now, None),
    ]
    joined = "SELECT key, channel, sent_at FROM workers_notification n JOIN workers_alert a ON a.id = n.alert_id"
    assert sorted(sql(joined), key=str) == [("fell", "email", now), ("fell", "webhook", None), ("late", "email", None)]


def test_paths_into_the_data_folder_become_relative_also_of_one_that_was_moved_before(
    migrate: Callable[..., None], sql: Sql, tmp_path: Path
) -> None:
    migrate("datasets_app", "0003")
    migrate("workers", "0013")
    (tmp_path / "datasets" / "moved").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    now = "2026-03-01 00:00:00"
    paths = {"here": f"{tmp_path}/datasets/here", "moved": "/old/var/datasets/moved", "gone": "/gone/datasets/gone"}
    columns = "name, path, digest, metadata, created_at"
    for name, path in paths.items():
        sql(f"INSERT INTO datasets_app_routingdataset ({columns}) VALUES (?, ?, '', '{{}}', ?)", name, path, now)  # noqa: S608
    needed_ones = [
        name for _, name, _, needed, default, key in sql("PRAGMA table_info(workers_run)") if needed and not key
    ]
    spec = json.dumps({"data": f"{tmp_path}/prepared/a", "base": "/base"})
    run: dict[str, Any] = dict.fromkeys(needed_ones, "") | {
        "created_at": now,
        "spec": spec,
        "reuse": 0,
        "step": 0,
        "version": 0,
    }
    run |= dict.fromkeys(("params", "inputs", "progress", "summary"), "{}")
    sql(f"INSERT INTO workers_run ({', '.join(run)}) VALUES ({', '.join('?' * len(run))})", *run.values())  # noqa: S608
    migrate()
    rows = dict(sql("SELECT name, path FROM datasets_app_routingdataset"))
    assert rows == {"here": "datasets/here", "moved": "datasets/moved", "gone": "/gone/datasets/gone"}
    ((written,),) = sql("SELECT spec FROM workers_run")
    assert json.loads(written) == {"data": "{data}/prepared/a", "base": "/base"}
