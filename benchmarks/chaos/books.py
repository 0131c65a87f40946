"""What was promised, and what became of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets_app.room import FULL

WORDS = (FULL, "The job was killed before it ended.", "The job did not start within")
"""How the reason of a failure may begin: these are the faults that can fail a run."""


class Books:
    """Runs by name as they were acknowledged, and by id those whose cancel was; the launch keys of jobs that were
    killed; runs and pipelines as they ended."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}
        self.cancelled: set[int] = set()
        self.killed: set[str] = set()
        self.ended: dict[tuple[str, int], tuple[Any, ...]] = {}
        self.changed_terminal = 0

    def look(self) -> int:
        """Look at every run and pipeline; how many are not over."""
        from workers.models import Pipeline, Run
        from workers.states import TERMINAL

        rows = [("run", *row) for row in Run.objects.values_list("pk", "status", "version", "finished_at", "error")]
        rows += [("pipeline", *row) for row in Pipeline.objects.values_list("pk", "outcome", "verdict", "finished_at")]
        still_open = 0
        for what, pk, *state in rows:
            if state[0] not in TERMINAL:
                still_open += 1
                self.changed_terminal += (what, pk) in self.ended
            elif self.ended.setdefault((what, pk), tuple(state)) != tuple(state):
                self.changed_terminal += 1
                self.ended[what, pk] = tuple(state)
        return still_open

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
            too_many = len({attempt.launch_key for attempt in attempts} & worked - self.killed) - 1
            ends = "; ".join(f"{attempt.outcome} {attempt.error}" for attempt in attempts)
            excess += [f"{run.name}: {ends}"] * max(0, too_many)
        return excess

    def lost_writes(self, committed: list[str]) -> int:
        """Acknowledged runs that are not there, or not as they were acknowledged; committed ones that are gone; cancels
        that nothing tells of."""
        from workers.models import Run

        found = dict(Run.objects.values_list("name", "pk"))
        gone = sum(found.get(name) != pk for name, pk in self.acknowledged.items())
        told = set(Run.objects.exclude(cancel_requested_at=None).values_list("pk", flat=True))
        return gone + sum(name not in found for name in committed) + len(self.cancelled - told)

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
