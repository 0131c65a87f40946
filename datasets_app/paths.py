"""Paths that people name: what is there, or one sentence that says why it can't be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets_app.errors import InputError

MAX_PATH = 1024
MAX_SHOWN = 200


def resolved(path: str | Path, what: str) -> Path:
    """The path, absolute and without links, whether anything is there or not; InputError that begins with `what`."""
    with _readable(path, what):
        return Path(path).expanduser().resolve()


def existing_folder(path: str | Path, what: str) -> Path:
    """The same of a folder that is there and can be read."""
    folder = resolved(path, what)
    with _readable(path, what):
        is_folder = folder.is_dir()
        if is_folder:
            next(folder.iterdir(), None)
    if not is_folder:
        raise InputError(f"{what} {_shown(path)} is not a folder.")
    if len(str(folder)) > MAX_PATH:
        raise InputError(f"{what} {_shown(path)} has a path of more than {MAX_PATH} characters.")
    return folder


def read_file(path: str | Path, what: str, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes; InputError that begins with `what` if there is none."""
    with _readable(path, what):
        file = Path(path).expanduser()
        file.stat()
        if not file.is_file():  # a pipe would wait for its writer
            raise InputError(f"{what} {_shown(path)} is not a regular file.")
        with file.open("rb") as opened:
            data = opened.read(most + 1)
    if len(data) > most:
        raise InputError(f"{what} {_shown(path)} is larger than {most} bytes.")
    return data


@contextmanager
def _readable(path: str | Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{what} {_shown(path)} cannot be read: {error.strerror}.") from None
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        # a loop of links, the home of a user who does not exist, a NUL
        raise InputError(f"{what} {_shown(path)} is not a path that can be followed.") from None


def _shown(path: str | Path) -> str:
    text = str(path)[-MAX_SHOWN:]
    return text if text.isprintable() else repr(text)
