"""The processes of a laptop installation, started from the Procfile and stopped together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

STOP_SECONDS = 90.0


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def supervisor(*names: str) -> list[str]:
    """The command that keeps the processes of the Procfile running, or those named."""
    return [sys.executable, "-m", "controlplane.supervisor", *names]


@contextmanager
def running(log: Path) -> Iterator[None]:
    """Run all processes while the block runs, their output going to `log`; stop them however it ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        manager = subprocess.Popen(
            supervisor(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        manager.send_signal(signal.SIGTERM)
        try:
            manager.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(manager.pid, signal.SIGKILL)
            manager.wait()


def wait_until_up(url: str, *, seconds: float, log: Path) -> None:
    """Return when `url` answers 200; RuntimeError that names the log after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} did not answer within {seconds:.0f} s; see {log}.")
