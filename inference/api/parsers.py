"""JSON as strict as the rest of the platform needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from datasets_app.errors import InputError
from datasets_app.strict_json import parse

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
            return parse(raw.decode())
        except UnicodeDecodeError as error:
            raise ParseError("The body is not UTF-8.") from error
        except InputError as error:
            raise ParseError(str(error)) from error
