"""Requests that wait for their turn."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from inference.engines.in_process.jobs import Job


class Waiting:
    """First come first served within a deployment, once an expert is chosen before those that are still to be routed;
    the deployments take turns. Not safe for threads.
    """

    def __init__(self) -> None:
        self._lines: dict[str, deque[Job]] = {}  # the one whose turn is next first

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    @property
    def held(self) -> Counter[str]:
        """How many wait of each deployment."""
        return Counter({digest: len(line) for digest, line in self._lines.items()})

    def put(self, job: Job) -> None:
        """Queue the job behind those of its deployment that are as far as it."""
        line = self._lines.setdefault(job.deployment.digest, deque())
        chosen = sum(other.decision is not None for other in line)
        line.insert(chosen if job.decision else len(line), job)

    def take(self, count: int, places: int) -> list[Job]:
        """At most `count` jobs, of which at most `places` want an answer and so a row to decode in."""
        taken: list[Job] = []
        passed = 0  # lines in a row whose first job found no place
        while len(taken) < count and passed < len(self._lines):
            digest, line = next(iter(self._lines.items()))
            del self._lines[digest]
            if line[0].answers and not places:
                passed += 1
            else:
                job = line.popleft()
                places -= job.answers
                taken.append(job)
                passed = 0
            if line:
                self._lines[digest] = line
        return taken

    def remove(self, ended: Callable[[Job], bool]) -> list[Job]:
        """Take out the jobs for which `ended` is true."""
        removed = [job for line in self._lines.values() for job in line if ended(job)]
        if removed:
            gone = set(map(id, removed))
            kept = {name: deque(job for job in line if id(job) not in gone) for name, line in self._lines.items()}
            self._lines = {name: line for name, line in kept.items() if line}
        return removed
