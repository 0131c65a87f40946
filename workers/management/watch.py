"""What is seen in the terminal of runs and pipelines that are waited for: progress bars, and why nothing moves."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from workers.models import Pipeline, Run
from workers.services.heartbeats import is_alive
from workers.states import Status

INTERVAL = 0.5  # seconds
PATIENCE = 5.0  # seconds without a worker, before it is said
NO_WORKER = "No worker takes rounds: start `make serve`."
BAR = "{desc}{percentage:3.0f}%|{bar:24}| {postfix} [{elapsed}]"


class Reasons:
    """Says why what is waited for does not move: its trouble whenever that changes, and once that no worker lives."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._troubles: dict[str, str] = {}
        self._is_missed = False

    def tell(self, waited: Sequence[Run | Pipeline]) -> None:
        """On stderr, above the bars."""
        for row in waited:
            if row.trouble and row.trouble != self._troubles.get(row.name):
                self._troubles[row.name] = row.trouble
                tqdm.write(f"  {row.name}: {row.trouble}", file=sys.stderr)
        if self._is_missed or time.monotonic() - self._began < PATIENCE or all(row.is_over for row in waited):
            return
        if not is_alive("worker"):
            self._is_missed = True
            tqdm.write(NO_WORKER, file=sys.stderr)


def watch_pipeline(pipeline: Pipeline) -> None:
    """Watch its runs, then wait for the verdict."""
    reasons = Reasons()
    watch(pipeline.steps, reasons)
    while not pipeline.is_over:
        reasons.tell([pipeline])
        time.sleep(INTERVAL)
        pipeline.refresh_from_db()


def watch(runs: Sequence[Run], reasons: Reasons | None = None) -> None:
    """Show one bar a run until all are over, then read the rows again; where there is no terminal, lines."""
    reasons = reasons or Reasons()
    width = max((len(run.name) for run in runs), default=0)
    bars = {
        run.pk: tqdm(total=1, desc=f"  {run.name:{width}} ", file=sys.stderr, disable=None, bar_format=BAR)
        for run in runs
        if not run.is_over
    }
    said: dict[int, str] = {}
    try:
        while bars:
            current = list(Run.objects.filter(pk__in=bars).order_by("pk"))
            for run in current:
                show(run, bars[run.pk])
                if bars[run.pk].disable and said.get(run.pk) != run.status:
                    print(f"  {run.name}: {run.status}", file=sys.stderr, flush=True)
                    said[run.pk] = run.status
            reasons.tell(current)
            if all(run.is_over for run in current):
                break
            time.sleep(INTERVAL)
    finally:
        for bar in bars.values():
            bar.close()
    for run in runs:
        run.refresh_from_db()


def show(run: Run, bar: tqdm[Any]) -> None:
    """Bring the bar to where the run is."""
    progress = run.progress
    metrics = " ".join(f"{name} {value:.3g}" for name, value in progress.get("metrics", {}).items())
    left = f"{progress['seconds_left']:.0f} s left" if progress.get("seconds_left") and not run.is_over else ""
    bar.total = progress.get("total") or 1
    bar.n = bar.total if run.status == Status.SUCCEEDED else min(progress.get("done", 0), bar.total)
    bar.set_postfix_str(" ".join(word for word in (run.status, progress.get("step", ""), left, metrics) if word))
