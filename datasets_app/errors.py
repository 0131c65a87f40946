"""The one exception for input that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from datasets_app.text import plain


class InputError(ValueError):
    """What the user gave is wrong.

    The message is one sentence that names the field, file or line and says what would be right. Commands turn
    it into exit code 2, the API into HTTP 400; it is never a bug.
    """

    def __str__(self) -> str:
        return plain(super().__str__())


@contextmanager
def naming(field: str) -> Iterator[None]:
    """An InputError from within begins with the name of the field that was given wrongly."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{field}: {error}") from error
