"""A `Job` that remembers what was reported."""

from __future__ import annotations

from pathlib import Path


class RecordingJob:
    """Writes below `root`: `out/` is new each time, `work/` is kept."""

    def __init__(self, root: Path, name: str = "out") -> None:
        self.out = root / name
        self.work = root / "work"
        self.out.mkdir(parents=True)
        self.work.mkdir(exist_ok=True)
        self.reports: list[tuple[str, int, int, dict[str, float]]] = []

    def progress(self, step: str, done: int, total: int, **metrics: float) -> None:
        self.reports.append((step, done, total, metrics))

    def checkpointed(self) -> None:
        pass
