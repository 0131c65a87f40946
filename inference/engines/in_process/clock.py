"""Milliseconds per stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Adds up the time spent in named stages, waiting for the accelerator at the end of each."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block towards stage `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.stages[name] = self.stages.get(name, 0.0) + (time.perf_counter() - started) * 1000

    def shared_by(self, count: int) -> dict[str, float]:
        """The stages of one of `count` requests that were computed together."""
        return {name: milliseconds / count for name, milliseconds in self.stages.items()}


def timings_of(queued: float, *stages: dict[str, float]) -> dict[str, float]:
    """Add stages up; `generate` is prefill and decode together, `total` everything."""
    sums = {"queue": queued}
    for part in stages:
        for name, milliseconds in part.items():
            if name not in ("queue", "total"):
                sums[name] = sums.get(name, 0.0) + milliseconds
    total = sum(sums.values())
    if "decode" in sums:
        sums["generate"] = sums["prefill"] + sums["decode"]
    return sums | {"total": total}
