"""A request once it is checked."""

from __future__ import annotations

import time
from dataclasses import dataclass

from PIL import Image

from datasets_app.errors import InputError
from inference.engines.images import decode
from inference.engines.in_process.prompts import check_words
from inference.engines.types import Request

MAX_TOKENS = 4096


@dataclass(frozen=True)
class Sample:
    """A checked request: the decoded image and how many milliseconds that took, the words, the token limit."""

    image: Image.Image
    words: str
    max_tokens: int
    decoding: float

    @classmethod
    def of(cls, request: Request) -> Sample:
        """Check the request and decode its image; InputError otherwise."""
        check_words(request.prompt)
        if type(request.max_tokens) is not int or not 1 <= request.max_tokens <= MAX_TOKENS:
            raise InputError(f"max_tokens must be a whole number from 1 to {MAX_TOKENS}.")
        started = time.perf_counter()
        image = decode(request.image)
        return cls(image, request.prompt, request.max_tokens, (time.perf_counter() - started) * 1000)
