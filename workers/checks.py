"""`manage.py check --deploy` asks the compute backend in use, and Modal if the engine is there, what is missing."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import Error, register

from workers.compute import get_compute


@register("compute", deploy=True)
def check_compute(**kwargs: Any) -> list[Error]:
    """One error for each thing that keeps jobs, or requests, from running."""
    names = dict.fromkeys([settings.COMPUTE_DEFAULT, *(["modal"] if settings.ENGINE_ON_MODAL else [])])
    return [
        Error(f"Compute backend {name!r}: {problem}", id="workers.E001")
        for name in names
        for problem in get_compute(name).problems()
    ]
