"""The tool call in an expert's answer."""

from __future__ import annotations

from typing import Any

from datasets_app.errors import InputError
from datasets_app.strict_json import parse

OPEN, CLOSE = "<tool_call>", "</tool_call>"


def parse_tool_call(text: str) -> dict[str, Any] | None:
    """Return `{"name": str, "arguments": object}` from the answer's one `<tool_call>` block, else None.

    Strict: exactly one block, in it one JSON object with these two keys. Text around the block is allowed. What
    `strict_json` does not take, as a hundred lists within each other, would fail whoever sends or stores the answer.
    """
    if text.count(OPEN) != 1 or text.count(CLOSE) != 1:
        return None
    body, closed, _ = text.partition(OPEN)[2].partition(CLOSE)
    if not closed:
        return None
    try:
        call = parse(body)
    except InputError:
        return None
    match call:
        case {"name": str(name), "arguments": dict(arguments), **rest} if name and not rest:
            return {"name": name, "arguments": arguments}
    return None
