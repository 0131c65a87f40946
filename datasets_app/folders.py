"""Folders that people name."""

from __future__ import annotations

from pathlib import Path

from datasets_app.errors import InputError

MAX_PATH = 1024


def existing_folder(path: str | Path, what: str) -> Path:
    """The folder, absolute and without links; InputError that begins with `what` if there is none to be read."""
    shown = repr(str(path)[:120])
    try:
        folder = Path(path).expanduser().resolve()
        is_folder = folder.is_dir()
        if is_folder:
            next(folder.iterdir(), None)
    except (OSError, RuntimeError, ValueError):  # too long, a loop of links, forbidden, an unknown user's home, a NUL
        raise InputError(f"{what} {shown} is not a path that can be read.") from None
    if not is_folder:
        raise InputError(f"{what} {shown} is not a folder.")
    if len(str(folder)) > MAX_PATH:
        raise InputError(f"{what} {shown} has a path of more than {MAX_PATH} characters.")
    return folder
