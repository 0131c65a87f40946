"""Which code runs, with which libraries, on what: the deployed app must be that of this installation."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

from workers.remote.machines import MACHINES, TIME_LIMITS

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
PACKAGES = ("adapters", "datasets_app", "inference", "workers")


@functools.cache
def code_digest() -> str:
    """16 hex digits over names and contents of all modules of the packages that a job may import, the versions of the
    libraries that the image is made with, and the jobs' machines and time limits.
    """
    total = hashlib.sha256(json.dumps([MACHINES, TIME_LIMITS]).encode())
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    if CONSTRAINTS.is_file():  # in a container, where nobody asks, there is none
        paths.append(CONSTRAINTS)
    for path in paths:
        total.update(f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def code_mark() -> str:
    """The name of a function that those versions of the app have which run this code."""
    return f"code-{code_digest()}"
