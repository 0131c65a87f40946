"""How many requests the web process has under way at the engine, unless a setting says so."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from datasets_app.errors import InputError
from inference.engines.limits import Limits

MAX_PLACES = 4096


def engine_places() -> int:
    """As many as the engine answers at once and has places for in its queue; on a GPU it has some more."""
    try:
        limits = Limits.from_env(on_gpu=False)
    except InputError as error:
        raise ImproperlyConfigured(str(error)) from error
    return limits.queue + limits.batch
