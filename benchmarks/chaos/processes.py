"""The processes of the installation: kept running, killed, stopped for a while."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from controlplane.supervisor import Process, end, read_procfile


class Processes:
    """Broker, web, worker and two beats; `kills` counts."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.kills = 0
        self._stopped: dict[int, float] = {}
        self._all = {process.name: process for process in read_procfile(["broker", "web", "worker", "beat"])}
        self._all["beat-2"] = Process("beat-2", self._all["beat"].command)

    def keep_running(self) -> None:
        """Start what has died, at once; let go on what stood still for long enough."""
        for process in self._all.values():
            process.failures = -1
            process.look_after()
        for pid, until in list(self._stopped.items()):
            if time.monotonic() > until:
                self.go_on(pid)

    def kill(self, pid: int) -> None:
        """SIGKILL, and count it."""
        self.signal(pid, signal.SIGKILL)
        self.kills += 1

    def stop(self, pid: int, seconds: float) -> None:
        """Let it stand still for a while."""
        self._stopped[pid] = time.monotonic() + seconds
        self.signal(pid, signal.SIGSTOP)

    def go_on(self, pid: int) -> None:
        """The end of standing still."""
        self._stopped.pop(pid, None)
        self.signal(pid, signal.SIGCONT)

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send it, if it is still there."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def pid(self, name: str) -> int:
        """Of the main process of that name."""
        popen = self._all[name].popen
        if popen is None:
            raise ProcessLookupError(name)
        return popen.pid

    def child(self, name: str) -> int:
        """Of one of those that it has forked."""
        main = self.pid(name)
        return int(self.chance.choice(Path(f"/proc/{main}/task/{main}/children").read_text().split()))

    def end(self) -> None:
        """End all, the broker last."""
        for pid in list(self._stopped):
            self.go_on(pid)
        end([process for process in self._all.values() if process.name != "broker"])
        end([self._all["broker"]])
