"""A run's progress as a bar."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString

from workers.models import Run
from workers.states import Status


def percent(run: Run) -> int:
    """0 to 100."""
    if run.status == Status.SUCCEEDED:
        return 100
    done, total = run.progress.get("done", 0), run.progress.get("total", 0)
    return min(100, int(100 * done / total)) if total else 0


def words(run: Run) -> str:
    """Step, count and live metrics."""
    if run.is_over or not run.progress:
        return ""
    progress = run.progress
    metrics = [f"{name} {value:.3g}" for name, value in progress.get("metrics", {}).items()]
    restarts = [f"restarted {progress['restarts']}×"] if progress.get("restarts") else []
    return " · ".join([f"{progress['step']} {progress['done']}/{progress['total']}", *metrics, *restarts])


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
