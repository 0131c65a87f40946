"""Reading JSON records from files that anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets_app.errors import InputError
from datasets_app.strict_json import decode
from datasets_app.text import is_plain

MAX_LINE = 2**20  # bytes; a record is text, the screenshot lies beside it
MAX_FILE = 256 * 2**20  # bytes of a .json list, which has to be read at once

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PAR1": "Parquet",
}
"""By its first bytes, what a file is that holds no text, whatever its name says."""


@contextmanager
def located(file: str, line: int, unit: str = "line") -> Iterator[None]:
    """Prefix the InputError of one row with where the row is: "data.jsonl, line 12: …"."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}, {unit} {line}: {error}") from error


def read_records(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield (number, "line" or "item", record) of a `.jsonl` file, or of a `.json` file with one list."""
    if not path.is_file():
        raise InputError(f"{path.name} is not a regular file.")
    _check_text(path)
    if path.suffix == ".json":
        for number, record in enumerate(_read_list(path), 1):
            with located(path.name, number, "item"):
                checked = _check_record(record)
            yield number, "item", checked
        return
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            with located(path.name, number):
                if len(raw) > MAX_LINE:
                    raise InputError(f"the line is longer than {MAX_LINE} bytes.")
                if not raw.strip():
                    continue
                _check_line(raw)
                checked = _check_record(parse(raw))
            yield number, "line", checked


def _check_text(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(8)
    for magic, name in _PACKED.items():
        if start.startswith(magic):
            raise InputError(f"{path.name} is no text but {name}: unpack or convert it to .jsonl.")


def _read_list(path: Path) -> list[Any]:
    with located(path.name, 1):
        if path.stat().st_size > MAX_FILE:
            raise InputError(f"the file is larger than {MAX_FILE // 2**20} MiB; use .jsonl.")
        raw = path.read_bytes()
        if decode(raw).lstrip().startswith("{"):
            raise InputError("the file must hold one list of objects; one object a line belongs in a .jsonl file.")
        records = parse(raw)
        if not isinstance(records, list):
            raise InputError("the file must hold one list of objects.")
    return records


def _check_line(raw: bytes) -> None:
    line = decode(raw).strip()
    if line.startswith("["):
        raise InputError("a list begins here: a .jsonl file holds one object a line, one list belongs in a .json file.")
    if line == "{":
        raise InputError("the object goes on in the next line: write each object on one line, or a list as .json.")


def parse(raw: bytes) -> Any:
    """Parse one JSON document strictly: UTF-8, no NaN or Infinity, no key twice in an object."""
    try:
        return json.loads(decode(raw), parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except RecursionError:
        raise InputError("the JSON is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg} (character {error.pos + 1}).") from None
    except InputError:
        raise
    except ValueError:  # an integer of thousands of digits
        raise InputError("not valid JSON: a number is too long.") from None


def _no_constant(name: str) -> Any:
    raise InputError(f"{name} is not valid JSON.")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise InputError("a key occurs twice in one object.")
    return record


def _check_record(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise InputError("a JSON object is needed here.")
    pending: list[Any] = [record]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and not is_plain(value):
            raise InputError("the text holds a NUL or half a surrogate pair, which no tokenizer takes.")
    return record
