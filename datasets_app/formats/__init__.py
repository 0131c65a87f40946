"""Dataset formats: one file a format, Django-free and torch-free.

A source format is a module with `read(folder) -> Iterator[SourceRow]` that checks each row and its image as
it goes. To add one, write the module and add its line to `SOURCE_FORMATS`. The routing format is the
platform's own, see `routing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from datasets_app.errors import InputError
from datasets_app.formats.digest import folder_digest
from datasets_app.formats.rows import SourceRow

SOURCE_FORMATS = {
    "llava": "datasets_app.formats.llava",
}


def read_source(folder: Path, format: str = "llava") -> Iterator[SourceRow]:
    """Yield the rows of a source dataset in file order; InputError names file and line of a wrong one."""
    if format not in SOURCE_FORMATS:
        raise InputError(f"Dataset format {format!r} is unknown; there is {', '.join(sorted(SOURCE_FORMATS))}.")
    rows: Iterator[SourceRow] = import_module(SOURCE_FORMATS[format]).read(Path(folder))
    return rows


@dataclass(frozen=True)
class SourceFacts:
    """What is known of a source dataset once every row of it was read."""

    digest: str
    rows: int


def inspect_source(folder: Path, format: str = "llava") -> SourceFacts:
    """Check every row of a source dataset; InputError names file and line of a wrong one."""
    rows = sum(1 for _ in read_source(folder, format))
    return SourceFacts(folder_digest(Path(folder)), rows)
