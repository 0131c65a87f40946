"""What adapters are asked that bring no canaries of their own, and how near to the training's an answer must come."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from datasets_app.errors import InputError

WORDS = "Do what this screen asks for."

TOLERANCE = {"float32": (1e-4, 5e-3), "float16": (5e-3, 1e-2), "bfloat16": (3e-2, 6e-2)}
"""By dtype, how far a logit may lie from the recorded one, on the same and on another kind of device.

In units of the largest recorded logit. float32 on another device: a GPU may multiply in TF32."""

NO_OP = "The adapter is a no-op: it changes nothing of what the base answers."


def check_distance(off: float, largest: float, tolerance: float) -> None:
    """InputError if logits lie `off` from the recorded ones, of which `largest` is the largest absolute value."""
    allowed = tolerance * max(1.0, largest)
    if not off <= allowed:
        raise InputError(
            "The adapter is not the one that was trained, but swapped or stale: its logits differ from those "
            f"recorded at the training by {off:.3g}, where {allowed:.3g} is allowed."
        )


def screens() -> tuple[bytes, ...]:
    """Two small screens as PNG, of plain shapes: no font, so the same pixels everywhere."""
    return tuple(_screen(*colours) for colours in (("white", "navy", "orange"), ("black", "teal", "white")))


def _screen(ground: str, bar: str, mark: str) -> bytes:
    image, out = Image.new("RGB", (96, 96), ground), io.BytesIO()
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 95, 11), fill=bar)
    for number, (x, y) in enumerate((x, y) for y in range(20, 85, 16) for x in range(8, 85, 22)):
        draw.rectangle((x, y, x + 14, y + 9), fill=mark if number % 5 == 2 else None, outline=bar)
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
