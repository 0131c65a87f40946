"""Bodies as strict as the rest of the platform needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import DataAndFiles, JSONParser, MultiPartParser
from rest_framework.request import Request

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
        check_encoding(parser_context)
        raw = stream.read()
        if sum(raw.count(mark) for mark in (b"[", b"{", b",")) > MAX_VALUES:
            raise ParseError(f"The JSON holds more than {MAX_VALUES} values.")
        try:
            return parse(raw)
        except InputError as error:
            raise ParseError(str(error)) from error


class StrictFormParser(MultiPartParser):
    """A form in UTF-8 in which no field is given twice: the first or the last of two would be ignored."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> DataAndFiles[Any, Any]:
        check_encoding(parser_context)
        form = super().parse(stream, media_type, {**(parser_context or {}), "encoding": "utf-8"})
        for name in [*form.data, *form.files]:
            if len(form.data.getlist(name)) + len(form.files.getlist(name)) > 1:
                raise ParseError(f"{name[:100]}: This field is given twice.")
        return form


def check_encoding(parser_context: Mapping[str, Any] | None) -> None:
    """UnsupportedMediaType for a body that is compressed, which would read as nonsense."""
    request: Request | None = (parser_context or {}).get("request")
    encoding = request.headers.get("Content-Encoding", "identity") if request is not None else "identity"
    if encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType(encoding, "Send the body as it is: no Content-Encoding is accepted.")
