"""A run's progress as a bar."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString

from workers.models import Run
from workers.states import Status


def percent(run: Run) -> int:
    """0 to 100, of the whole job."""
    if run.status == Status.SUCCEEDED:
        return 100
    done, total = run.progress.get("done", 0), run.progress.get("total", 0)
    share = run.progress.get("percent", 100 * done / total if total else 0)
    return max(0, min(100, int(share)))


def words(run: Run) -> str:
    """Step of steps, count, rate, time left and live metrics; of a run that took a result, whose it was."""
    if run.reused_from is not None:
        return f"reused from {run.reused_from}"
    if run.is_over:
        return ""
    if not run.progress:
        return run.trouble
    progress = run.progress
    parts = [f"{progress['step']} {progress['done']}/{progress['total']}"]
    if progress.get("steps", 1) > 1:
        parts.append(f"step {progress['number']} of {progress['steps']}")
    if "rate" in progress:
        parts.append(f"{progress['rate']:.3g}/s")
    if progress.get("seconds_left"):
        parts.append(f"{duration(progress['seconds_left'])} left")
    parts += [f"{name} {value:.3g}" for name, value in progress.get("metrics", {}).items()]
    if progress.get("restarts"):
        parts.append(f"restarted {progress['restarts']}×")
    return " · ".join([*parts, run.trouble] if run.trouble else parts)


def duration(seconds: float) -> str:
    """Two units at most, as `3 min 20 s`."""
    whole = max(1, round(seconds))
    for size, unit, next_size, next_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {unit}" + (f" {rest} {next_unit}" if rest else "")
    return f"{whole} s"


def bar(run: Run, url: str) -> SafeString:
    """The bar; `live.js` keeps it up to date from `url` until the run is over."""
    return format_html(
        '<div class="run-progress" data-run="{}" data-url="{}" data-over="{}" data-status="{}">'
        '<div class="run-track"><div class="run-done" style="width: {}%"></div></div>'
        '<span class="run-words">{}</span></div>',
        run.pk,
        url,
        int(run.is_over),
        run.status,
        percent(run),
        words(run),
    )
