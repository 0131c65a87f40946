"""Content digest of a dataset folder."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from datasets_app.errors import InputError


def file_digest(path: Path) -> str:
    """SHA-256 of one file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_hidden(name: str) -> bool:
    """Whether a part of the relative path begins with a dot: what desktops, editors and Git leave is passed over."""
    return any(part.startswith(".") and part not in (".", "..") for part in PurePosixPath(name).parts)


def folder_files(folder: Path) -> dict[str, Path]:
    """The files below `folder` by relative name, without hidden ones.

    InputError for anything that is neither a folder nor a regular file inside `folder`.
    """
    root = folder.resolve()
    names: dict[str, Path] = {}
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if is_hidden(name):
            continue
        if not path.is_file() or not path.resolve().is_relative_to(root):
            what = "a link that leads out of it" if path.is_symlink() else "not a regular file inside it"
            raise InputError(f"{name!r} in dataset {folder.name!r} is {what}.")
        names[name] = path
    return names


def folder_digest(folder: Path) -> str:
    """`sha256:…` over one line `<sha256>  <relative name>` for each of `folder_files`, sorted by name.

    Equal for equal content wherever the folder lies; empty folders do not count.
    """
    names = folder_files(folder)
    lines = (f"{file_digest(names[name])}  {name}\n" for name in sorted(names))
    return "sha256:" + hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
