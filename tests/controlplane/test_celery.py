"""The worker comes back to a broker that was gone, and leaves nothing half done when it is told to end."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from controlplane.celery import app
from tests.controlplane.test_broker import answering, start


def test_a_broker_that_has_been_gone_for_long_is_looked_for_as_often_as_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda seconds: None)
    with app.connection_for_read("redis+socket:///nowhere/broker.sock") as connection, pytest.raises(OperationalError):
        connection.ensure_connection(lambda error, wait: waits.append(wait), max_retries=20)
    assert len(waits) >= 20
    assert max(waits) <= 2


WORKER = """
import sys, time
from pathlib import Path
import django
from django.conf import settings

class Off:  # tables without the history of their migrations
    def __contains__(self, label): return True
    def __getitem__(self, label): return None

settings.MIGRATION_MODULES = Off()
settings.COMPUTE = {"local": {"BACKEND": "__main__.Slow", "OPTIONS": {}, "SLOTS": 1}}
django.setup()
from django.core.management import call_command
from django.db import connections
from controlplane.celery import app
from workers.compute.types import JobState, JobStatus
from workers.models import Run
from workers.tasks import reconcile

FOLDER, SLOW = Path(sys.argv[1]), sys.argv[2]

class Slow:
    def submit(self, job):
        self._take("submit")
        return "the-handle"
    def poll(self, handle):
        self._take("poll")
        return JobStatus(JobState.RUNNING, {"step": "seen", "done": 1, "total": 2})
    def _take(self, step):
        if step == SLOW:
            (FOLDER / "under-way").touch()
            while not (FOLDER / "go-on").exists():
                time.sleep(0.05)

call_command("migrate", run_syncdb=True, verbosity=0)
Run.objects.create(name="run", kind="fetch", backend="local", spec={"ready": True})
connections.close_all()
for _ in range(2):
    reconcile.apply_async()
app.worker_main(["worker", "--concurrency", "1", "--loglevel", "warning"])
"""


@pytest.fixture
def data() -> Iterator[Path]:
    """The data folder of a broker, short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "broker.log").open("wb") as log:
        broker = start(Path(folder), log)
        answering(Path(folder) / "broker" / "broker.sock")
        yield Path(folder)
        broker.kill()
        broker.wait()


def wait_for(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("step", "found"),
    [("submit", ("the-handle", "{}")), ("poll", ("the-handle", '{"step": "seen", "done": 1, "total": 2}'))],
)
def test_a_worker_that_is_told_to_end_finishes_what_it_is_at(data: Path, step: str, found: tuple[str, str]) -> None:
    path = os.pathsep.join(path for path in sys.path if path)
    variables = {"PYTHONPATH": path, "SWITCHYARD_DATA": str(data), "DJANGO_SETTINGS_MODULE": "controlplane.settings"}
    embedded = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    words, log = [sys.executable, "-c", WORKER, str(data), step], data / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(words, env={**embedded, **variables}, stdout=output, stderr=output)
    try:
        wait_for((data / "under-way").exists, log)
        worker.send_signal(signal.SIGTERM)
        wait_for(lambda: "Warm shutdown" in log.read_text(), log)
        (data / "go-on").touch()
        assert worker.wait(180) == 0
    finally:
        (data / "go-on").touch()
        worker.kill()
    with closing(sqlite3.connect(data / "db.sqlite3")) as database:
        rows = database.execute(
            "SELECT status, handle, progress FROM workers_run JOIN workers_attempt ON run_id = workers_run.id"
        )
        assert rows.fetchall() == [("running", *found)]
