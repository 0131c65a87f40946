"""JSON that every database and reader takes."""

from __future__ import annotations

import json
import math
from typing import Any

from datasets_app.errors import InputError
from datasets_app.text import is_plain

MAX_DEPTH = 32
TOO_DEEP = f"The JSON is nested more than {MAX_DEPTH} deep."


def parse(text: str) -> Any:
    """The value; InputError unless `check_json` takes it, and no object has a key twice."""
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise InputError(TOO_DEEP) from error
    except ValueError as error:  # also integers of 5,000 digits
        raise InputError(f"This is not valid JSON: {error}.") from error
    check_json(value)
    return value


def json_object(text: str) -> dict[str, Any]:
    """The same for one object."""
    value = parse(text)
    if not isinstance(value, dict):
        raise InputError("A JSON object is needed here.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return value


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
