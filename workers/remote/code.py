"""Which code runs: the deployed app must be that of this installation."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

PACKAGES = ("adapters", "datasets_app", "inference", "workers")


@functools.cache
def code_digest() -> str:
    """16 hex digits over names and contents of all modules of the packages that a job may import."""
    root = Path(__file__).resolve().parents[2]
    total = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            total.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]
