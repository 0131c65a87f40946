"""How much work a request is."""

from __future__ import annotations

import math

from datasets_app.formats.pictures import check_image

PIXELS_A_PLACE = 2**21  # a screenshot of 1920 x 1080 takes one place
TOKENS_A_REQUEST = 2_048  # of a prompt as most are


def places(image: bytes) -> int:
    """How many places a request with this encoded image takes; InputError as `check_image` raises it."""
    _, width, height = check_image(image)
    return max(1, math.ceil(width * height / PIXELS_A_PLACE))
