"""A request for one adapter as the body of a chat completion, in the texts and pixels that its card asks for."""

from __future__ import annotations

import base64
import re
from typing import Any

from adapters.card import AdapterCard
from datasets_app.formats.pictures import check_image, portable
from inference.engines.chat import Text, Turns
from inference.engines.types import Request

# Qwen's added tokens. Servers read them wherever they stand, so in a user's words an invisible word joiner parts them.
_CONTROL = re.compile(r"<(?=\||/?(?:tool_call|tool_response|think)>)")
_PARTED = "<\u2060"


def data_url(image: bytes) -> str:
    """The image, checked by its header, as a `data:` URL; InputError if it is not accepted."""
    kind = check_image(image)[0].lower()
    sent = portable(image)
    mime = kind if sent is image else "png"
    return f"data:image/{mime};base64,{base64.b64encode(sent).decode()}"


def body(model: str, card: AdapterCard, request: Request, image_url: str, max_tokens: int) -> dict[str, Any]:
    """What every chat has; `image_url` is the request's image."""
    turns = Turns.of(card, _CONTROL.sub(_PARTED, request.prompt))
    image = {"type": "image_url", "image_url": {"url": image_url}}
    messages = [{"role": "user", "content": [*_text(turns.before), image, *_text(turns.after)]}]
    if turns.system.template:
        messages.insert(0, {"role": "system", "content": _text(turns.system)})
    return {
        "model": model,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "skip_special_tokens": False,
        "mm_processor_kwargs": {"size": {"shortest_edge": card.min_pixels, "longest_edge": card.max_pixels}},
    }


def _text(text: Text) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text.filled}] if text.template.strip() else []
