"""`volume:path`: a folder on a volume of Modal's, as people write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from datasets_app.errors import InputError

PLACE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}):(.*)", re.ASCII | re.DOTALL)
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", re.ASCII | re.IGNORECASE)
MAX_PATH = 1024


@dataclass(frozen=True)
class Place:
    """`path` is relative to the volume's root and stays inside it; `.` is the root."""

    volume: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """InputError unless it is `volume:path`, with a path that stays on the volume."""
        if URL.match(text):
            raise InputError(f"{text[:120]!r} is a URL: name a folder on the server, or volume:path on Modal.")
        match = PLACE.fullmatch(text)
        if match is None:
            raise InputError(f"{text[:120]!r} is not of the form volume:path.")
        path = PurePosixPath(match[2].strip("/") or ".")
        if len(match[2]) > MAX_PATH or ".." in path.parts or "\\" in match[2] or not match[2].isprintable():
            raise InputError(f"{text[:120]!r}: the path must be that of a folder on the volume, without '..'.")
        return cls(match[1], path.as_posix())

    def __str__(self) -> str:
        return f"{self.volume}:{'' if self.path == '.' else self.path}"


def is_place(text: object) -> bool:
    """Whether it is meant as `volume:path`, or is a URL, which `Place.parse` refuses.

    A local folder with a colon in its name is written with a slash before.
    """
    return isinstance(text, str) and (PLACE.fullmatch(text) or URL.match(text)) is not None
