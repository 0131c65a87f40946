"""Parts of bytes in one body, as `multipart/form-data` (RFC 7578) has them: no part is encoded or copied twice."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator

from datasets_app.errors import InputError

_OPENING = re.compile(rb"--([0-9A-Za-z'()+_,./:=?-]{1,70})\r\n")
_NAME = re.compile(rb'content-disposition: form-data; name="([^"\r\n]{1,100})"(?:;[^\r\n]*)?', re.IGNORECASE)
MAX_PARTS = 64
WRONG = "The body is no multipart/form-data whose parts have names."


def encode(parts: Iterable[tuple[str, str, bytes]]) -> bytes:
    """A body of (name, content type, bytes), whose first line is its boundary."""
    boundary = secrets.token_hex(16).encode()
    pieces: list[bytes] = []
    for name, kind, data in parts:
        head = f'Content-Disposition: form-data; name="{name}"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'
        pieces += [b"--", boundary, b"\r\n", head.encode(), data, b"\r\n"]
    return b"".join([*pieces, b"--", boundary, b"--\r\n"])


def content_type(body: bytes) -> str:
    """The Content-Type header of such a body."""
    return f"multipart/form-data; boundary={_boundary(body).decode()}"


def decode(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each part; InputError if the body is of another kind."""
    boundary = _boundary(body)
    *pieces, end = body.split(b"\r\n--" + boundary, MAX_PARTS)
    if not pieces or end.rstrip() != b"--":
        raise InputError(WRONG)
    pieces[0] = pieces[0].removeprefix(b"--" + boundary)
    for piece in pieces:
        head, blank, data = piece.partition(b"\r\n\r\n")
        names = [found[1] for line in head.split(b"\r\n") if (found := _NAME.fullmatch(line))]
        if not blank or len(names) != 1:
            raise InputError(WRONG)
        yield names[0].decode(errors="replace"), data


def _boundary(body: bytes) -> bytes:
    opening = _OPENING.match(body)
    if opening is None:
        raise InputError(WRONG)
    return opening[1]
