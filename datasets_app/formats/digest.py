"""Content digest of a dataset folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from datasets_app.errors import InputError


def file_digest(path: Path) -> str:
    """SHA-256 of one file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """`sha256:…` over one line `<sha256>  <relative name>` for each file below `folder`, sorted by name.

    Equal for equal content wherever the folder lies; empty folders do not count. InputError for anything
    that is neither a folder nor a regular file inside `folder`.
    """
    root = folder.resolve()
    names: dict[str, Path] = {}
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or not path.resolve().is_relative_to(root):
            raise InputError(f"{name!r} in dataset {folder.name!r} is not a regular file inside it.")
        names[name] = path
    lines = (f"{file_digest(names[name])}  {name}\n" for name in sorted(names))
    return "sha256:" + hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
