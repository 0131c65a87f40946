"""`python -m controlplane.guard`: ends the supervisor's processes when the supervisor itself was killed.

Its standard input is a pipe from the supervisor, on which each line names the process groups that run now, in stages
to be ended one after the other: `[[123, 125], [122]]`. The kernel closes the pipe however the supervisor ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType

STOP_SECONDS = 60.0  # from SIGTERM to SIGKILL: a task may take so long


class Guard:
    """The supervisor's end of the pipe."""

    def __init__(self) -> None:
        self._told: list[list[int]] = []
        self._popen = self._start()

    def tell(self, stages: list[list[int]]) -> None:
        """Say which process groups run, in the order in which they are to end; a guard that was killed is replaced."""
        if self._popen.poll() is not None:
            self._popen, self._told = self._start(), []
        if stages != self._told and self._popen.stdin is not None:
            with suppress(BrokenPipeError):
                self._popen.stdin.write(json.dumps(stages).encode() + b"\n")
                self._told = stages

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing runs any more, or was told so: the guard leaves, too."""
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        self._popen.wait()

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "controlplane.guard"]
        return subprocess.Popen(words, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)


def end(stages: list[list[int]]) -> None:
    """Ask the processes of each stage to end, and kill what has not after a while."""
    for groups in stages:
        for group in groups:
            with suppress(ProcessLookupError):
                os.kill(group, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(_is_there(group) for group in groups) and time.monotonic() < deadline:
            time.sleep(0.1)
        for group in groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> int:
    """Read until the pipe is closed, then end what was named last."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # it leaves with the supervisor, not before
    stages: list[list[int]] = []
    for line in sys.stdin:
        with suppress(ValueError):  # the supervisor was killed in the middle of a line
            stages = json.loads(line)
    end(stages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
