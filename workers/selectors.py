"""Reads over runs."""

from __future__ import annotations

from datasets_app.errors import InputError
from workers.models import Run


def get_run(name: str) -> Run:
    """The newest run called `name`; InputError if there is none."""
    run = Run.objects.filter(name=name).order_by("-id").first()
    if run is None:
        raise InputError(f"There is no run {name!r}.")
    return run
