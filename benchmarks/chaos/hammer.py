"""Processes that are killed at a chosen line of the platform's own code, as many as are wanted."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.chaos.installation import KINDS

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("workers/services", "workers/compute", "workers/kinds", "workers/selectors", "adapters", "datasets_app")
OWN_CODE = tuple(str(ROOT / part) for part in PARTS)
PUBLISHING = (str(ROOT / "workers/services/hints.py"),)
LINES = 900  # of our own code that a round runs through, roughly
AT_ONCE = 2
LAUNCHES = 0.05  # of the victims launch a run, the others reconcile


class Hammer:
    """A process that forks victims; `folder` is where it reads its orders and writes what it has done."""

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.folder, self.wanted, self.seed = folder, kills, seed
        folder.mkdir()
        self.pid = os.fork()
        if self.pid == 0:
            self._run()
            os._exit(0)

    @property
    def kills(self) -> int:
        """Victims killed so far."""
        with suppress(OSError, ValueError):
            return int((self.folder / "kills").read_text())
        return 0

    @property
    def committed(self) -> list[str]:
        """Names of the runs whose launch was killed after the commit and before a word to the broker."""
        with suppress(FileNotFoundError):
            return (self.folder / "committed").read_text().split()
        return []

    def pause(self) -> None:
        """Fork no more for a while."""
        (self.folder / "pause").touch()

    def go_on(self) -> None:
        """The end of the pause."""
        (self.folder / "pause").unlink()

    def stop(self) -> None:
        """End it, if it has not."""
        (self.folder / "stop").touch()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _run(self) -> None:
        chance, kills, launches = random.Random(self.seed), 0, 0
        victims: dict[int, str] = {}
        while (kills < self.wanted and not self._told("stop")) or victims:
            while len(victims) < AT_ONCE and kills < self.wanted and not self._told("stop") and not self._told("pause"):
                name = ""
                if chance.random() < LAUNCHES:
                    launches += 1
                    name = f"orphan-{launches:05d}"
                line = int(LINES ** chance.random()) if chance.random() < 0.3 else chance.randint(1, LINES)
                victims[_fork(lambda name=name, line=line: _launch(name) if name else _reconcile(line))] = name
            for pid in list(victims):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if not ended:
                    continue
                name = victims.pop(pid)
                if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                    kills += 1
                    (self.folder / "kills").write_text(str(kills))
                    if name:
                        with (self.folder / "committed").open("a") as file:
                            file.write(f"{name}\n")
            time.sleep(0.02)

    def _told(self, word: str) -> bool:
        return (self.folder / word).exists()


def _fork(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def _reconcile(line: int) -> None:
    """A round of the reconciler that is killed, for real, at the given line of our own code."""
    from workers.services import advance_all

    _kill_at(line, OWN_CODE)
    advance_all()


def _launch(name: str) -> None:
    """A launch that is killed between its commit and its word to the broker."""
    from workers.services import launch

    _kill_at(1, PUBLISHING)
    launch("generate_dataset", {"adapters": KINDS, "samples_per_class": 3, "split": (0, 0, 1)}, name=name)


def _kill_at(line: int, files: tuple[str, ...]) -> None:
    left = line

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(files):
            return None
        if event == "line":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
