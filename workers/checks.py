"""`manage.py check --deploy` asks the compute backend in use whether jobs can run."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import Error, register

from workers.compute import get_compute


@register("compute", deploy=True)
def check_compute(**kwargs: Any) -> list[Error]:
    """One error for each thing that keeps jobs from running."""
    name = settings.COMPUTE_DEFAULT
    problems = get_compute(name).problems()
    return [Error(f"Compute backend {name!r}: {problem}", id="workers.E001") for problem in problems]
