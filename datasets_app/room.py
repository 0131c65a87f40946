"""Full disks: how to tell one, and what to say of it."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path

from datasets_app.text import cut_urls, plain

FULL = "The disk is full: free some room and try again; nothing that was saved is lost."

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SQLSTATE = "53100"  # PostgreSQL's disk_full
_PROBE_BYTES = 2**20
_DEPTH = 10  # of causes: one may be its own


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the error, or what caused it, is that of a full disk, a quota or a limit on the size of files."""
    for _ in range(_DEPTH):
        if isinstance(error, OSError) and error.errno in _NUMBERS:
            return True
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        if getattr(error, "sqlstate", None) == _SQLSTATE:
            return True
        error = error and (error.__cause__ or error.__context__)
    return False


def explain(error: BaseException) -> str:
    """The error in words, for people."""
    return FULL if is_disk_full(error) else plain(cut_urls(f"{type(error).__name__}: {error}"))


def has_room(folder: Path) -> bool:
    """Whether a mebibyte can be written below `folder`: libraries do not always say why they could not write."""
    probe = folder / f".probe-{secrets.token_hex(8)}"
    try:
        with probe.open("wb") as file:
            file.write(os.urandom(_PROBE_BYTES))  # zeros take no room on some file systems
            file.flush()
            os.fsync(file.fileno())
        return True
    except OSError as error:
        return not is_disk_full(error)
    finally:
        with suppress(OSError):
            probe.unlink()
