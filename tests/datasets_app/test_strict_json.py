"""JSON of files and bodies: UTF-8 with or without a byte order mark, and nothing that two readers read differently."""

from __future__ import annotations

import codecs

import pytest

from datasets_app.errors import InputError
from datasets_app.strict_json import decode, json_object, parse


def test_a_byte_order_mark_is_read_over() -> None:
    assert parse(codecs.BOM_UTF8 + b'{"a": "\xc3\xa4"}') == parse(b'{"a": "\xc3\xa4"}') == {"a": "ä"}
    assert decode(codecs.BOM_UTF8 + b"a\nb") == "a\nb"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_another_encoding_is_named(encoding: str) -> None:
    with pytest.raises(InputError, match=f"{encoding.upper()}.*: save it as UTF-8"):
        parse('{"a": 1}'.encode(encoding))


def test_broken_utf_8_is_named_by_its_byte() -> None:
    with pytest.raises(InputError, match="Byte 8 is not valid UTF-8"):
        parse(b'{"a": "\xe9"}')


def test_the_key_that_occurs_twice_is_named() -> None:
    with pytest.raises(InputError, match="key 'b' occurs twice"):
        parse('{"a": 1, "b": {"b": 1}, "b": 2}')


@pytest.mark.parametrize("text", [b"", b"[", b"[]", b"1", b"NaN", b'{"a": 1e999}', b"[" * 100_000, b"1" * 10_000])
def test_what_is_no_object_is_refused_with_the_name_of_the_file(text: bytes) -> None:
    with pytest.raises(InputError, match=r"^card\.json: "):
        json_object(text, "card.json")
