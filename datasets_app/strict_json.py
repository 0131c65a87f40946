"""JSON that every database and reader takes."""

from __future__ import annotations

import math
from typing import Any

from datasets_app.errors import InputError
from datasets_app.text import is_plain

MAX_DEPTH = 32
TOO_DEEP = f"The JSON is nested more than {MAX_DEPTH} deep."


def check_json(value: Any, depth: int = 0) -> None:
    """InputError unless the value is JSON: finite numbers, text without NUL and half surrogate pairs, not too deep.

    Each of the others either crashes a database later or means different things to different readers.
    """
    if depth > MAX_DEPTH:
        raise InputError(TOO_DEEP)
    match value:
        case str():
            if not is_plain(value):
                raise InputError("The JSON holds a NUL character or a lone surrogate.")
        case float():
            if not math.isfinite(value):
                raise InputError(f"The JSON holds {value}, which is not a finite number.")
        case dict():
            for key, item in value.items():
                check_json(key, depth)
                check_json(item, depth + 1)
        case list() | tuple():
            for item in value:
                check_json(item, depth + 1)
        case None | bool() | int():
            pass
        case _:
            raise InputError(f"The JSON holds a {type(value).__name__}.")
