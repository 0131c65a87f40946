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


def watch(runs: Sequence[Run]) -> None:
    """Show one bar a run until all are over; RuntimeError names the first that did not succeed."""
    reused = [run for run in runs if run.is_over and run.status == Status.SUCCEEDED]
    for run in reused:
        print(f"  {run.name}: reused")
    bars = {
        run.pk: tqdm(total=100, desc=f"  {run.name:34}", disable=None, bar_format="{desc}{bar:24} {postfix}")
        for run in runs
        if run not in reused
    }
    try:
        _follow(bars)
    finally:
        for bar in bars.values():
            bar.close()
    for run in runs:
        run.refresh_from_db()
    failed = [run for run in runs if run.status != Status.SUCCEEDED]
    if failed:
        first = min(failed, key=lambda run: run.finished_at or run.created_at)
        raise RuntimeError(f"Run {first.name!r} {first.status}: {first.error}")


def _follow(bars: dict[int, Any]) -> None:
    said: dict[int, str] = {}
    while True:
        runs = list(Run.objects.filter(pk__in=bars))
        for run in runs:
            bar = bars[run.pk]
            progress = run.progress or {}
            share = progress["done"] / progress["total"] if progress.get("total") else 0.0
            bar.n = 100 if run.status == Status.SUCCEEDED else round(100 * share)
            metrics = " ".join(f"{name} {value:.3g}" for name, value in progress.get("metrics", {}).items())
            bar.set_postfix_str(f"{run.status} {progress.get('step', '')} {metrics}")
            if bar.disable and said.get(run.pk) != run.status:
                print(f"  {run.name}: {run.status}", file=sys.stdout, flush=True)
                said[run.pk] = run.status
        if all(run.is_over for run in runs):
            return
        time.sleep(INTERVAL)
