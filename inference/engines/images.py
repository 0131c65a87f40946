"""Images from outside: what they are by content, with every limit checked before a pixel is decoded."""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError

from datasets_app.errors import InputError
from datasets_app.formats.images import FORMATS, MAX_BYTES, MAX_PIXELS
from datasets_app.formats.parts import excess
from datasets_app.formats.webp import webp_size

MAX_SIDE = 16_384
MAX_ASPECT = 100  # Qwen3-VL's own resizing fails beyond 200
_METADATA = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}


class UnsupportedImage(InputError):  # noqa: N818
    """The bytes are no PNG, JPEG or WEBP (HTTP 415 where the API has a say)."""


def check_image(data: bytes) -> tuple[str, int, int]:
    """Return the image's format ("PNG", "JPEG" or "WEBP"), width and height in pixels, from its header.

    Raises UnsupportedImage for another format, InputError for one too large, too narrow, animated or of too many parts.
    """
    with _open(data) as image:
        return str(image.format), image.width, image.height


def decode(data: bytes) -> Image.Image:
    """Check, then decode to RGB; InputError if the data is truncated or broken."""
    with _open(data) as image:
        try:
            return image.convert("RGB")
        except Exception as error:  # Broken bytes make Pillow raise whatever its decoders stumble over.
            raise InputError("The image is truncated or broken.") from error


def reencode(data: bytes) -> bytes:
    """The image as a PNG of our own making: pixels only, no metadata and nothing appended."""
    image, out = decode(data), io.BytesIO()
    image.info = {}  # else Pillow writes profile, transparent colour and resolution again
    image.save(out, format="PNG")
    return out.getvalue()


def portable(data: bytes) -> bytes:
    """The image so that every decoder sees the pixels that `decode` does: re-encoded only if opinions may differ.

    They do on what lies behind transparent pixels, and on whether an orientation in the metadata turns the image.
    """
    with _open(data) as image:
        is_plain = not image.has_transparency_data and not image.info.keys() & _METADATA
    return data if is_plain else reencode(data)


def _open(data: bytes) -> Image.Image:
    if len(data) > MAX_BYTES:
        raise InputError(f"The image has {len(data)} bytes; at most {MAX_BYTES} are accepted.")
    _check_size(*(webp_size(data) or (1, 1)))
    if found := excess(data):
        raise InputError(f"The image has {found}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # Our own limit is lower.
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(f"The image is too large: at most {MAX_PIXELS} pixels are accepted.") from error
    except UnidentifiedImageError as error:
        raise UnsupportedImage("The image is no PNG, JPEG or WEBP, or its header is broken.") from error
    except Exception as error:
        raise InputError("The image's header is broken.") from error
    try:
        if image.format not in FORMATS:
            raise UnsupportedImage("The image is no PNG, JPEG or WEBP.")
        _check_size(image.width, image.height)
        if getattr(image, "n_frames", 1) != 1:
            raise InputError("Animated images are not accepted: give one frame.")
    except InputError:
        image.close()
        raise
    except Exception as error:
        image.close()
        raise InputError("The image's header is broken.") from error
    return image


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise InputError(
            f"The image is {width} x {height}; at most {MAX_PIXELS} pixels, {MAX_SIDE} a side, are accepted."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(f"The image is {width} x {height}; sides may differ by at most {MAX_ASPECT} times.")
