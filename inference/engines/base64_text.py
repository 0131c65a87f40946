"""Bytes as clients write them into JSON: base64, in lines or not, bare or as a `data:` URL."""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress

from datasets_app.errors import InputError


def is_data_url(text: str) -> bool:
    """Whether it begins as `data:…;base64,` does."""
    head = text.partition(",")[0].lower()
    return head.startswith("data:") and head.endswith(";base64")


def from_base64(text: str) -> bytes:
    """The bytes; InputError where it is no base64."""
    data = text.partition(",")[2] if is_data_url(text) else text
    with suppress(binascii.Error, ValueError):
        return base64.b64decode(data, validate=True)  # as most write it, and megabytes need no tidying up
    data = "".join(data.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("not valid base64: give what `base64 FILE` prints, or data:image/png;base64,….") from error
