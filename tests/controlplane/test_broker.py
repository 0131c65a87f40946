"""The embedded broker: one in a data folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest
import redis


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def start(data: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(path for path in sys.path if path)
    variables = {**os.environ, "PYTHONPATH": path, "SWITCHYARD_DATA": str(data)}
    return subprocess.Popen([sys.executable, "-m", "controlplane.broker"], env=variables, stdout=output, stderr=output)


def answering(socket: Path) -> int:
    """The process id of the broker behind the socket, as soon as one answers."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(redis.ConnectionError):
            return int(redis.Redis(unix_socket_path=str(socket)).info("server")["process_id"])
        time.sleep(0.05)
    raise AssertionError(f"Nobody answers on {socket}.")


def test_a_broker_waits_for_the_one_before_it_and_keeps_its_socket(data: Path) -> None:
    """The one before it may end long after: its guard gives a worker its time first."""
    socket, log = data / "broker" / "broker.sock", data / "log"
    with log.open("wb") as output:
        old = start(data, output)
        new = None
        try:
            assert answering(socket) == old.pid
            new = start(data, output)
            deadline = time.monotonic() + 30
            while b"Another broker still runs" not in log.read_bytes():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            old.terminate()
            old.wait(30)
            assert answering(socket) == new.pid
        finally:
            for process in (old, new):
                if process is not None:
                    process.kill()
                    process.wait()
