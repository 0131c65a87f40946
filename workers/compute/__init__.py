"""Compute backends: where a job runs. `settings.COMPUTE` names each by dotted path."""

from __future__ import annotations

import functools

from django.conf import settings
from django.utils.module_loading import import_string

from datasets_app.errors import InputError
from workers.compute.types import Compute


@functools.cache
def get_compute(name: str) -> Compute:
    """The backend called `name` in `settings.COMPUTE`; InputError that lists what there is."""
    if name not in settings.COMPUTE:
        raise InputError(f"There is no compute backend {name!r}; configured: {', '.join(settings.COMPUTE)}.")
    config = settings.COMPUTE[name]
    backend: Compute = import_string(config["BACKEND"])(**config["OPTIONS"])
    return backend
