"""Dataset formats: one file a format, Django-free and torch-free.

A source format is a module with `read(folder) -> Iterator[SourceRow]` that checks each row and its image as
it goes. To add one, write the module and add its line to `SOURCE_FORMATS`. The routing format is the
platform's own, see `routing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """What is known of a source dataset once every row was read; `screens` are different ones, None: not counted."""

    digest: str
    rows: int
    screens: int | None


def inspect_source(folder: Path, format: str = "llava", counted: Mapping[str, int | None] | None = None) -> SourceFacts:
    """Check every row of a source dataset; InputError names file and line of a wrong one. `counted` holds the number of
    different screens of sources, by their digest, in which nobody need count them again."""
    from datasets_app.formats.screens import count_screens  # scipy with it, which nothing else here needs

    rows = list(read_source(folder, format))
    digest = folder_digest(Path(folder))
    screens = (counted or {}).get(digest)
    return SourceFacts(digest, len(rows), count_screens(rows) if screens is None else screens)
