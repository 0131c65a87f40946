"""The end of a job's log, which people's pages ask for every other second."""

from __future__ import annotations

import os
from pathlib import Path

MOST_BYTES = 2**18
RETURN = "\r"


def tail(log: Path, lines: int) -> str:
    """The last lines, of the last 256 KiB at most, as a terminal shows them: of a bar that was drawn over itself, the
    last state. '' if there is no log."""
    try:
        with log.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - MOST_BYTES)
            file.seek(start)
            text = file.read(MOST_BYTES).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    found = text.removesuffix("\n").split("\n") if text else []
    if start:
        found = found[1:] or found  # the first one began before
    return "".join(f"{line.rstrip(RETURN).rpartition(RETURN)[2]}\n" for line in found[-lines:])
