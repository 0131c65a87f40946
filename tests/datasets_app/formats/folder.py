"""Small datasets that a test can spoil."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image


def llava_row(number: int, **changes: Any) -> dict[str, Any]:
    """A valid row of a source dataset, with some fields replaced."""
    call = json.dumps({"name": "click", "arguments": {"day": number}})
    return {
        "id": f"row-{number}",
        "image": f"images/{number}.png",
        "conversations": [
            {"from": "system", "value": "Answer with a tool call."},
            {"from": "human", "value": "<image>\nClick the day."},
            {"from": "gpt", "value": f"<tool_call>\n{call}\n</tool_call>"},
        ],
    } | changes


def routing_row(number: int, label: str = "calendar", index: int = 0, **changes: Any) -> dict[str, Any]:
    """A valid sample of a routing dataset, with some fields replaced."""
    return {
        "id": f"{label}_{number:05d}",
        "image": f"images/{number}.png",
        "conversations": [
            {"from": "system", "value": "You are a routing classifier..."},
            {"from": "human", "value": "<image>\nWhich adapter should handle this?"},
            {"from": "gpt", "value": label},
        ],
        "metadata": {"adapter": label, "label": index},
    } | changes


class Folder:
    """A dataset folder with pictures 0 to 4, to which a test writes rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "images").mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (40, 30), (number * 40, 90, 120)).save(path / "images" / f"{number}.png")

    def lines(self, *rows: Any, name: str = "data.jsonl") -> Path:
        """Write one line a row: bytes as they are, anything else as JSON. Returns the folder."""
        raw = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        (self.path / name).write_bytes(b"".join(line + b"\n" for line in raw))
        return self.path
