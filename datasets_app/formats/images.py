"""Screenshots in a dataset: where they may lie and what they may be."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePath, PureWindowsPath

from datasets_app.errors import InputError
from datasets_app.formats.digest import is_hidden
from datasets_app.formats.pictures import MAX_BYTES, check_image, decode

MIN_SIDE = 4


def resolve_image(folder: Path, name: object) -> Path:
    """Path of the image that a row calls `name`: a regular file inside `folder` once links are followed."""
    if not isinstance(name, str) or not name:
        raise InputError("field 'image' must be the path of one image file, relative to the dataset's folder.")
    shown = repr(name[:120])
    if "://" in name or name.startswith("data:"):
        raise InputError(f"image {shown} is a URL; only files inside the dataset's folder are read.")
    if Path(name).is_absolute() or PureWindowsPath(name).is_absolute():
        raise InputError(f"image {shown} is an absolute path; write it relative to the dataset's folder.")
    if "\\" in name:
        raise InputError(f"image {shown} has a backslash; write '/' between folders.")
    if is_hidden(name):
        raise InputError(f"image {shown} is hidden: names that begin with a dot are passed over.")
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve())
        mode = path.stat().st_mode if inside else 0
    except FileNotFoundError:
        raise InputError(f"image {shown} is missing.") from None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a loop of links, below a file
        raise InputError(f"image {shown} is not a usable path.") from None
    if not inside:
        is_outside = PurePath(os.path.normpath(name)).parts[0] == ".."
        why = "lies outside" if is_outside else "is a link that leads out of"
        raise InputError(f"image {shown} {why} the dataset's folder.")
    if not stat.S_ISREG(mode):
        raise InputError(f"image {shown} is not a regular file.")
    return path


def check_file(path: Path, name: str) -> None:
    """Refuse what `decode` does, and what is too small for a screenshot; the header tells before a pixel is decoded."""
    called = f"image {name[:120]!r}"
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{called} is larger than {MAX_BYTES // 2**20} MiB.")
    data = path.read_bytes()
    _, width, height = check_image(data, called)
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{called} is {width}x{height}: too narrow for a screenshot.")
    decode(data, called)
