"""Where things lie on the volume of adapters, all of them by content."""

from __future__ import annotations

import re

from datasets_app.errors import InputError

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def adapter_folder(digest: str) -> str:
    """The files of an adapter version; InputError if that is no digest."""
    return f"adapters/{_hex(digest)}"


def stack_file(digest: str) -> str:
    """A stack that was deployed, as JSON: what a new container loads when it is asked for it."""
    return f"stacks/{_hex(digest)}.json"


def _hex(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if not match:
        raise InputError("A digest is 'sha256:' and 64 hex digits.")
    return match[1]
