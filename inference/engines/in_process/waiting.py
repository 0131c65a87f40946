"""Requests that wait for their turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from inference.engines.in_process.jobs import Job
from inference.engines.in_process.turns import Lines


class Waiting:
    """Clients take turns, and so do the deployments that one asks; the turns are of equal work, not of equal number.

    Within a turn it is first come first served, once an expert is chosen before those that are still to be routed. Not
    safe for threads.
    """

    def __init__(self) -> None:
        self._lines: Lines[tuple[str, str], Job] = Lines()

    def __len__(self) -> int:
        return sum(1 for _ in self._lines)

    @property
    def places(self) -> int:
        """How many they take."""
        return sum(job.places for job in self._lines)

    @property
    def held(self) -> Counter[str]:
        """How many places each deployment's take."""
        held: Counter[str] = Counter()
        for job in self._lines:
            held[job.deployment.digest] += job.places
        return held

    def put(self, job: Job) -> None:
        """Queue the job behind those of its line that are as far as it."""
        line = self._lines.line((job.client, job.deployment.digest))
        chosen = sum(other.decision is not None for other in line)
        line.insert(chosen if job.decision else len(line), job)

    def take(self, count: int, rows: int, tokens: float = float("inf")) -> list[Job]:
        """At most `count` jobs, of which at most `rows` want an answer and so a row to decode in.

        Beyond the first they have at most `tokens` to read.
        """
        taken: list[Job] = []

        def fits(job: Job) -> bool:
            return bool(rows or not job.answers) and (not taken or job.work <= tokens)

        while len(taken) < count and (job := self._lines.take(lambda job: job.work, fits)):
            taken.append(job)
            rows -= job.answers
            tokens -= job.work
        return taken

    def remove(self, ended: Callable[[Job], bool]) -> list[Job]:
        """Take out the jobs for which `ended` is true."""
        removed = [job for job in self._lines if ended(job)]
        if removed:
            gone = set(map(id, removed))
            self._lines.keep(lambda job: id(job) not in gone)
        return removed
