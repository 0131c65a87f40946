"""What dies is started again; what is told to end has time to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.test import Client

from controlplane.supervisor import Process, read_procfile, supervise


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., threading.Event]]:
    """Start supervising; the event ends it."""
    ending = threading.Event()
    threads: list[threading.Thread] = []

    def begin(*processes: Process) -> threading.Event:
        threads.append(threading.Thread(target=supervise, args=(list(processes), ending)))
        threads[0].start()
        return ending

    yield begin
    ending.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_what_is_killed_is_started_again_and_the_rest_goes_on(supervised: Callable[..., threading.Event]) -> None:
    one, other = Process("one", "sleep 60"), Process("other", "sleep 60")
    supervised(one, other)
    wait_for(lambda: one.popen and other.popen)
    first, untouched = one.popen.pid, other.popen.pid  # type: ignore[union-attr]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: one.popen and one.popen.pid != first)
    assert other.popen.pid == untouched  # type: ignore[union-attr]


def test_what_keeps_ending_is_started_ever_less_often() -> None:
    process = Process("one", "false")
    pauses = []
    for _ in range(3):
        process.start_at = 0
        process.look_after()
        process.popen.wait()  # type: ignore[union-attr]
        before = time.monotonic()
        process.look_after()
        pauses.append(process.start_at - before)
    assert pauses == sorted(pauses)
    assert pauses[-1] > 2


def test_a_process_has_time_to_finish_and_the_broker_ends_last(
    supervised: Callable[..., threading.Event], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    wait = "while :; do sleep 0.1; done"
    slow = f"""sh -c 'trap "sleep 0.5; echo worker >> {log}; exit 0" TERM; touch {tmp_path}/up; {wait}'"""
    broker = f"""sh -c 'trap "echo broker >> {log}; exit 0" TERM; {wait}'"""
    ending = supervised(Process("broker", broker), Process("worker", slow))
    wait_for((tmp_path / "up").exists)
    ending.set()
    wait_for(lambda: log.exists() and log.read_text().splitlines() == ["worker", "broker"])


SUPERVISOR = """
import sys, threading
from controlplane.supervisor import Process, supervise
broker, worker = (Process(name, sys.argv[1].format(name=name)) for name in ("broker", "worker"))
supervise([broker, worker], threading.Event())
"""


def test_what_a_killed_supervisor_leaves_behind_ends_too(tmp_path: Path) -> None:
    """In the same order, and with time to finish."""
    log = tmp_path / "log"
    trap, wait = f'trap "echo {{name}} >> {log}; exit 0" TERM', "while :; do sleep 0.1; done"
    command = f"sh -c '{trap}; touch {tmp_path}/{{name}}; {wait}'"
    path = os.pathsep.join(path for path in sys.path if path)
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, command], env={**os.environ, "PYTHONPATH": path})
    wait_for(lambda: (tmp_path / "broker").exists() and (tmp_path / "worker").exists())
    supervisor.kill()
    supervisor.wait()
    wait_for(lambda: log.exists() and log.read_text().split() == ["worker", "broker"])


CHATTY = """
import sys, threading
from pathlib import Path
from controlplane.supervisor import Process, supervise
talk = "i=0; while [ $i -lt 3000 ]; do echo line $i of many that nobody can write down; i=$((i+1)); done"
done = Path(sys.argv[1])
chatty = Process("worker", f"sh -c '{talk}; echo x >> {done}'")  # and ends, so that it is started again
ending = threading.Event()
threading.Thread(target=supervise, args=([chatty], ending)).start()
while not (done.exists() and len(done.read_text().split()) > 1):
    ending.wait(0.05)
ending.set()
"""


@pytest.mark.parametrize("stdout", ["full", "gone"])
def test_output_that_cannot_be_written_holds_up_no_process_and_ends_none(tmp_path: Path, stdout: str) -> None:
    """More of it than a pipe holds."""
    path = os.pathsep.join(path for path in sys.path if path)
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("wb") as full:
        where = full if stdout == "full" else writer
        words = [sys.executable, "-c", CHATTY, str(tmp_path / "done")]
        supervisor = subprocess.Popen(words, stdout=where, stderr=where, env={**os.environ, "PYTHONPATH": path})
    try:
        supervisor.wait(30)
    finally:
        supervisor.kill()
        os.close(writer)
    assert len((tmp_path / "done").read_text().split()) > 1


def test_a_process_that_cannot_be_started_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the machine has no memory left for another."""

    def refuse(*words: object, **options: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    process = Process("one", "true")
    monkeypatch.setattr("controlplane.supervisor.subprocess.Popen", refuse)
    process.look_after()
    assert process.popen is None
    assert process.start_at > time.monotonic()


def test_the_procfile_has_all_processes_and_leaves_the_broker_out_where_there_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert [process.name for process in read_procfile([])] == ["broker", "engine", "web", "worker", "beat"]
    monkeypatch.setenv("REDIS_URL", "redis://10.0.0.2:6379/0")
    assert [process.name for process in read_procfile([])] == ["engine", "web", "worker", "beat"]
    assert [process.name for process in read_procfile(["web"])] == ["web"]
    with pytest.raises(ValueError, match="no nothing"):
        read_procfile(["nothing"])


@pytest.mark.django_db
def test_readiness_names_each_part(client: Client) -> None:
    """Here only the database is there."""
    response = client.get("/ready")
    assert response.status_code == 503
    body = response.json()
    assert list(body) == ["status", "database", "broker", "worker", "beat", "engine"]
    assert (body["database"], body["broker"], body["engine"]) == ("ok", "failing", "failing")
