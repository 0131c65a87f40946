"""`python -m controlplane.supervisor [NAME …]`: the processes of the Procfile, or some of them, kept running.

Without a name all of them; but no broker where REDIS_URL names another. Where the settings are wrong none is started.
A process that ends is started again, after a pause that grows while it keeps ending. SIGTERM or SIGINT ends all:
first those that use the broker, each with time to finish what it is at, then the broker. Where the supervisor itself
is killed, its guard does that.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from django.core.exceptions import ImproperlyConfigured

from controlplane.env import DATA, ROOT, has_own_broker
from controlplane.guard import STOP_SECONDS, Guard
from inference.engines.limits import Limits

PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a process is started again
STEADY_SECONDS = 60.0  # after which it counts as started well
LAST = "broker"
LONGEST_LINE = 2**16
LOCK = DATA / "supervisor.lock"  # shared by all that run in the data folder


@dataclass
class Process:
    """One line of the Procfile."""

    name: str
    command: str
    popen: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = field(default=0)

    def start(self) -> None:
        """Start it in a session of its own, its output going to ours line by line."""
        self.started_at = time.monotonic()
        self.popen = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {self.command}"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self.popen.stdout is not None  # noqa: S101 - it is a pipe
        threading.Thread(target=_copy, args=(self.name, self.popen.stdout), daemon=True).start()

    def look_after(self) -> None:
        """Start it if it is due; if it has ended, end what is left of it and say when it is due again."""
        if self.popen is None:
            if time.monotonic() >= self.start_at:
                try:
                    self.start()
                except (OSError, RuntimeError) as error:  # no memory or number is left for a process or a thread
                    self.kill()
                    self._wait(f"{self.name} could not be started: {error}")
        elif self.popen.poll() is not None:
            self.kill()
            self._wait(f"{self.name} ended with code {self.popen.returncode}")

    def _wait(self, why: str) -> None:
        """Leave it alone for a while, the longer the more often that has happened in a row."""
        _say(why)
        now = time.monotonic()
        self.failures = 0 if now - self.started_at > STEADY_SECONDS else self.failures + 1
        self.popen, self.start_at = None, now + PAUSES[min(self.failures, len(PAUSES) - 1)]

    def stop(self) -> None:
        """Ask it to end."""
        if self.popen is not None:
            with suppress(ProcessLookupError):
                self.popen.terminate()

    def kill(self) -> None:
        """End it and every process that it started in its session."""
        if self.popen is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, signal.SIGKILL)


def environment() -> dict[str, str]:
    """This process's environment with the interpreter's own programs first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def check_settings() -> None:
    """ValueError or ImproperlyConfigured that says what is wrong: else each process would, again and again."""
    importlib.import_module("controlplane.settings")
    Limits.from_env(on_gpu=False)


def read_procfile(names: list[str]) -> list[Process]:
    """The processes, in the order of the Procfile; ValueError for a name that it does not have."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    commands = {name.strip(): command.strip() for name, _, command in (line.partition(":") for line in lines if line)}
    unknown = set(names) - set(commands)
    if unknown:
        raise ValueError(f"The Procfile has no {', '.join(sorted(unknown))}; it has {', '.join(commands)}.")
    wanted = names or [name for name in commands if name != LAST or has_own_broker()]
    return [Process(name, command) for name, command in commands.items() if name in wanted]


def supervise(processes: list[Process], ending: threading.Event) -> None:
    """Keep the processes running until `ending` is set, then end them."""
    stages = [[process for process in processes if process.name != LAST]]
    stages.append([process for process in processes if process.name == LAST])
    with Guard() as guard:
        while not ending.wait(0.2):
            for process in processes:
                process.look_after()
                guard.tell([[process.popen.pid for process in stage if process.popen] for stage in stages])
        for stage in stages:
            end(stage)
        guard.tell([])


def end(processes: list[Process]) -> None:
    """Ask all of them at once to end, and kill those that have not after a while."""
    for process in processes:
        process.stop()
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        if process.popen is not None:
            with suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.popen.wait()


def _copy(name: str, output: IO[bytes]) -> None:
    while line := output.readline(LONGEST_LINE):
        _say(line.decode(errors="replace").rstrip("\n"), name)


def _say(text: str, name: str = "") -> None:
    """Print it. What cannot be written, as on a full disk, is lost: no process stands still or ends for that."""
    with suppress(OSError, ValueError):
        print(f"{name or 'system':7}| {text}", flush=True)


def main() -> int:
    """Supervise until told to end."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    try:
        check_settings()
        processes = read_procfile(sys.argv[1:])
    except (ValueError, ImproperlyConfigured) as error:
        print(error, file=sys.stderr)
        return 2
    DATA.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{DATA} is being removed: start again when it is gone.", file=sys.stderr)
            return 1
        supervise(processes, ending)
    return 0


if __name__ == "__main__":
    sys.exit(main())
