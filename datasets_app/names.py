"""Names that appear in paths, URLs and as the router's answers."""

from __future__ import annotations

import re

from datasets_app.errors import InputError

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if it is safe as a file name, URL part and label; InputError that names `what` otherwise."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"{what} {name!r} is not a valid name: use 1 to 64 of a-z, 0-9, '.', '_' and '-', "
            "beginning and ending with a letter or digit, without '..'."
        )
    return name
