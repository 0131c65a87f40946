"""What every kind of screen returns: an image, the question about it and the expert's answer."""

from __future__ import annotations

import json
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Example:
    """One drawn screen with the last two turns of its conversation."""

    image: Image.Image
    prompt: str
    answer: str


def tool_call(name: str, arguments: dict[str, str | int]) -> str:
    """A call as Qwen writes it: JSON on one line between `<tool_call>` tags."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"
