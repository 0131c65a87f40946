"""JSON that every database and reader takes."""

from __future__ import annotations

import json
import math
from typing import Any

from datasets_app.errors import InputError
from datasets_app.text import is_plain

MAX_DEPTH = 32
TOO_DEEP = f"The JSON is nested more than {MAX_DEPTH} deep."


def decode(data: bytes) -> str:
    """The text of a file or body in UTF-8, with or without a byte order mark; InputError names another encoding."""
    encoding = json.detect_encoding(data)
    if not encoding.startswith("utf-8"):
        raise InputError(f"The text seems to be {encoding.upper()}: save it as UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"Byte {error.start + 1} is not valid UTF-8.") from error


def parse(text: str | bytes) -> Any:
    """The value; InputError unless `check_json` takes it, and no object has a key twice. Bytes go through `decode`."""
    try:
        value = json.loads(decode(text) if isinstance(text, bytes) else text, object_pairs_hook=_unique)
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(TOO_DEEP) from error
    except ValueError as error:  # also integers of 5,000 digits
        raise InputError(f"This is not valid JSON: {error}.") from error
    check_json(value)
    return value


def json_object(text: str | bytes, what: str = "") -> dict[str, Any]:
    """The same for one object; `what`, such as a file's name, begins the InputError."""
    try:
        value = parse(text)
        if not isinstance(value, dict):
            raise InputError("A JSON object is needed here.")
    except InputError as error:
        raise InputError(f"{what}: {error}" if what else str(error)) from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise InputError(f"The key {key[:80]!r} occurs twice in one object.")
        value[key] = item
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
