"""The processor without its video half, which needs torchvision."""

from __future__ import annotations

from typing import Any

from transformers import Qwen3VLProcessor


class ScreenshotProcessor(Qwen3VLProcessor):
    """`Qwen3VLProcessor` for text and images alone.

    Beside CPU torch there is no torchvision, and without torchvision the stock class cannot be built. It saves and
    loads the same folders.
    """

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)  # type: ignore[no-untyped-call]
