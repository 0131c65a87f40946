"""How many requests the web process has under way at the engine, unless a setting says so."""

from __future__ import annotations

import math

from django.core.exceptions import ImproperlyConfigured

from controlplane.env import env
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


INFER_PLACES = env.int("SWITCHYARD_INFER_PLACES") or engine_places()
USER_PLACES = env.int("SWITCHYARD_USER_PLACES") or math.ceil(INFER_PLACES / 2)
if not (1 <= INFER_PLACES <= MAX_PLACES and 1 <= USER_PLACES <= INFER_PLACES):
    raise ImproperlyConfigured(
        f"SWITCHYARD_INFER_PLACES must be 1 to {MAX_PLACES}, and SWITCHYARD_USER_PLACES no more than that."
    )
