"""What was promised, and what became of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from datasets_app.room import FULL

WORDS = (FULL, "The job was killed before it ended.", "The job did not start within")
"""How the reason of a failure may begin: these are the faults that can fail a run."""


class Books:
    """Runs by name as they were acknowledged, by id as they ended, and how often each had its job killed."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}
        self.ended: dict[int, tuple[Any, ...]] = {}
        self.job_kills: Counter[int] = Counter()
        self.changed_terminal = 0

    def look(self) -> int:
        """Look at every run; how many are not over."""
        from workers.models import Run
        from workers.states import TERMINAL

        open_runs = 0
        for pk, *state in Run.objects.values_list("pk", "status", "version", "finished_at", "error"):
            if state[0] not in TERMINAL:
                open_runs += 1
                self.changed_terminal += pk in self.ended
            elif self.ended.setdefault(pk, tuple(state)) != tuple(state):
                self.changed_terminal += 1
                self.ended[pk] = tuple(state)
        return open_runs

    def excess_launches(self, jobs: Path) -> list[str]:
        """Jobs that did work though nothing called for them: a run may have one, and one for each that was killed.

        Each as its run, with how the run's attempts ended.
        """
        from workers.models import Attempt, Run

        keys = set(Attempt.objects.values_list("launch_key", flat=True))
        worked = {claim.parent.name for claim in jobs.glob("*/claim") if _has_worked(claim.parent)}
        excess = [f"{key}: nobody's" for key in worked - keys]
        for run in Run.objects.prefetch_related("attempts"):
            attempts = run.attempts.all()
            too_many = sum(attempt.launch_key in worked for attempt in attempts) - 1 - self.job_kills[run.pk]
            ends = "; ".join(f"{attempt.outcome} {attempt.error}" for attempt in attempts)
            excess += [f"{run.name}: {ends}"] * max(0, too_many)
        return excess

    def lost_writes(self, committed: list[str]) -> int:
        """Acknowledged runs that are not there, or not as they were acknowledged; and committed ones that are gone."""
        from workers.models import Run

        found = dict(Run.objects.values_list("name", "pk"))
        gone = sum(found.get(name) != pk for name, pk in self.acknowledged.items())
        return gone + sum(name not in found for name in committed)

    def unexplained(self) -> list[str]:
        """Failures whose reason is none of the faults."""
        from workers.models import Run

        errors = Run.objects.filter(status="failed").values_list("error", flat=True)
        return [error for error in errors if not error.startswith(WORDS)]


def _has_worked(job: Path) -> bool:
    """Whether it took its launch and began; one that was given up before it began leaves at once."""
    try:
        result = json.loads((job / "result.json").read_bytes())
    except FileNotFoundError:
        result = {}
    left = result.get("state") == "cancelled" and not (job / "out").exists()
    return (job / "claim").stat().st_size > 0 and not left
