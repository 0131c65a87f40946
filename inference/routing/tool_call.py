"""The tool call in an expert's answer."""

from __future__ import annotations

import json
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"


def parse_tool_call(text: str) -> dict[str, Any] | None:
    """Return `{"name": str, "arguments": object}` from the answer's one `<tool_call>` block, else None.

    Strict: exactly one block, in it one JSON object with these two keys. Text around the block is allowed.
    """
    if text.count(OPEN) != 1 or text.count(CLOSE) != 1:
        return None
    body, closed, _ = text.partition(OPEN)[2].partition(CLOSE)
    if not closed:
        return None
    try:
        call = json.loads(body, object_pairs_hook=_unique)
        # What cannot be written as JSON again (NaN, 1e400, lone surrogates) would fail whoever stores the answer.
        json.dumps(call, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    match call:
        case {"name": str(name), "arguments": dict(arguments), **rest} if name and not rest:
            return {"name": name, "arguments": arguments}
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)
