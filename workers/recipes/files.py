"""Writing a small file so that a reader sees the old or the new one, never half of it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to a sibling, flush it to the disk and rename it to `path`."""
    sibling = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with sibling.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sibling.replace(path)
