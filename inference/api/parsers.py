"""JSON as strict as the rest of the platform needs it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

MAX_DEPTH = 32
MAX_VALUES = 100_000


class StrictJSONParser(JSONParser):
    """UTF-8 JSON without NUL, lone surrogates, NaN, infinities, duplicate keys or excessive nesting.

    Each of these either crashes a database backend later or means different things to different readers.
    """

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        raw = stream.read()
        if sum(raw.count(mark) for mark in (b"[", b"{", b",")) > MAX_VALUES:
            raise ParseError(f"The JSON holds more than {MAX_VALUES} values.")
        try:
            data = json.loads(
                raw.decode(),
                parse_constant=_finite,
                parse_float=_finite,
                object_pairs_hook=_unique,
            )
        except RecursionError as error:
            raise ParseError(TOO_DEEP) from error
        except ValueError as error:  # also UnicodeDecodeError and integers of 5,000 digits
            raise ParseError(f"The body is not valid JSON: {error}.") from error
        _check(data, depth=0)
        return data


TOO_DEEP = f"The JSON is nested more than {MAX_DEPTH} deep."


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return data


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ParseError(TOO_DEEP)
    match value:
        case str():
            if "\0" in value or (not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)):
                raise ParseError("The JSON holds a NUL character or a lone surrogate.")
        case dict():
            for key, item in value.items():
                _check(key, depth)
                _check(item, depth + 1)
        case list():
            for item in value:
                _check(item, depth + 1)
