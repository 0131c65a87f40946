"""From counts to what people expect of progress."""

from __future__ import annotations

from typing import Any


class Meter:
    """Turns `done` of `total` of a step into percent, step of steps, rate and time left. `steps` in their order."""

    def __init__(self, steps: tuple[str, ...] = ()) -> None:
        self._steps = steps
        self._step = ""
        self._since = 0.0
        self._first = 0

    def report(self, step: str, done: int, total: int, metrics: dict[str, float], now: float) -> dict[str, Any]:
        """One report at the time `now`, in seconds; what cannot be known yet is left out.

        `percent` is that of the whole job, its steps counting alike; `rate` is in units a second since the step began.
        """
        if step != self._step:
            self._step, self._since, self._first = step, now, done
        report: dict[str, Any] = {"step": step, "done": done, "total": total, "metrics": metrics, "at": round(now, 3)}
        share = min(1.0, done / total) if total else 0.0
        if step in self._steps:
            number = self._steps.index(step)
            report |= {"number": number + 1, "steps": len(self._steps)}
            share = (number + share) / len(self._steps)
        report["percent"] = round(100 * share, 1)
        seconds, units = now - self._since, done - self._first
        if seconds > 0 and units > 0:
            report |= {"rate": round(units / seconds, 3), "seconds_left": round((total - done) * seconds / units, 1)}
        return report
