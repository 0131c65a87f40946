"""What one process at a time does on a data folder; the system lets go of its lock however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

LONG_STEP = "long-step"
"""The other processes of the worker are for the rounds."""


@contextmanager
def alone(what: str) -> Iterator[bool]:
    """Whether nobody else is at it."""
    Path(settings.DATA_ROOT).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(Path(settings.DATA_ROOT) / f"{what}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
