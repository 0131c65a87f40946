"""Progress bars for runs, in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from workers.models import Run
from workers.states import Status

INTERVAL = 0.5  # seconds
BAR = "{desc}{percentage:3.0f}%|{bar:24}| {postfix} [{elapsed}]"


def watch(runs: Sequence[Run]) -> None:
    """Show one bar a run until all are over, then read the rows again; where there is no terminal, lines."""
    width = max((len(run.name) for run in runs), default=0)
    bars = {
        run.pk: tqdm(total=1, desc=f"  {run.name:{width}} ", file=sys.stderr, disable=None, bar_format=BAR)
        for run in runs
        if not run.is_over
    }
    said: dict[int, str] = {}
    try:
        while bars:
            current = list(Run.objects.filter(pk__in=bars))
            for run in current:
                show(run, bars[run.pk])
                if bars[run.pk].disable and said.get(run.pk) != run.status:
                    print(f"  {run.name}: {run.status}", file=sys.stderr, flush=True)
                    said[run.pk] = run.status
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
