"""From bytes to the picture that a model sees: one way for data, training, golden outputs and requests.

The picture is RGB and upright, as a viewer shows it: an orientation in the metadata is applied, transparency lies on
white, 16-bit values are scaled to 8, and of a JPEG that holds several pictures the first counts. Every limit is
checked before a pixel is decoded.
"""

from __future__ import annotations

import io
import warnings

from PIL import ExifTags, Image, UnidentifiedImageError

from datasets_app.errors import InputError
from datasets_app.formats.parts import excess
from datasets_app.formats.webp import webp_size

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 20 * 2**20
MAX_PIXELS = 25_000_000  # a 6K screen; 75 MB decoded
MAX_SIDE = 16_384
MAX_ASPECT = 100  # Qwen3-VL's own resizing fails beyond 200

_SEVERAL = "MPO"  # how Pillow calls a JPEG with an index of several pictures
_METADATA = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
_PLAIN = {"1", "L", "P", "RGB"}
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation (`object`: files hold any value there), what turns the stored pixels upright."""


class UnsupportedImage(InputError):  # noqa: N818
    """The bytes are no PNG, JPEG or WEBP (HTTP 415 where the API has a say)."""


def check_image(data: bytes, called: str = "The image") -> tuple[str, int, int]:
    """Return the format ("PNG", "JPEG" or "WEBP"), width and height in stored pixels, from the header.

    Raises UnsupportedImage for another format, InputError for one too large, too narrow, animated or of too many parts.
    `called` is how the sentence begins.
    """
    with _open(data, called) as image:
        return "JPEG" if image.format == _SEVERAL else str(image.format), image.width, image.height


def decode(data: bytes, called: str = "The image") -> Image.Image:
    """Check, then decode to the RGB picture that a model sees; InputError if the data is truncated or damaged."""
    with _open(data, called) as image:
        try:
            image.load()
            picture = _on_white(_in_8_bits(image, data))
            turn = _TURNS.get(_orientation(image))
            return picture if turn is None else picture.transpose(turn)
        except Exception as error:  # Broken bytes make Pillow raise whatever its decoders stumble over.
            raise InputError(f"{called} is truncated or damaged.") from error


def reencode(data: bytes, called: str = "The image") -> bytes:
    """The picture as a PNG of our own making: pixels only, no metadata and nothing appended."""
    picture, out = decode(data, called), io.BytesIO()
    picture.info = {}  # else Pillow writes profile, transparent colour and resolution again
    picture.save(out, format="PNG")
    return out.getvalue()


def portable(data: bytes, called: str = "The image") -> bytes:
    """The image so that every decoder sees the pixels that `decode` does: re-encoded only if opinions may differ.

    They do on transparency, orientation, 16-bit and CMYK values, and on which of several pictures counts.
    """
    with _open(data, called) as image:
        try:
            if image.format == "PNG":
                image.load()  # its metadata may lie behind the pixels
        except Exception as error:
            raise InputError(f"{called} is truncated or damaged.") from error
        is_one = image.format in FORMATS and image.mode in _PLAIN
        is_plain = is_one and not image.has_transparency_data and not image.info.keys() & _METADATA
    return data if is_plain else reencode(data, called)


def _in_8_bits(image: Image.Image, data: bytes) -> Image.Image:
    """A PNG's 16-bit grey in 8 bits, and its transparent colour in the units of the pixels."""
    depth = data[24] if image.format == "PNG" else 8  # of IHDR, the first chunk
    if image.mode.startswith("I"):
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    key = image.info.get("transparency")
    if depth == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)
    elif depth == 16 and isinstance(key, int):
        image.info["transparency"] = key >> 8
    elif depth in (2, 4) and image.mode == "L" and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**depth - 1)
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    picture = Image.new("RGB", image.size, "white")
    picture.paste(image, mask=image.getchannel("A"))
    return picture


def _orientation(image: Image.Image) -> object:
    """EXIF's number; that of no turn where the metadata is broken, which spoils no pixel."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


def _open(data: bytes, called: str) -> Image.Image:
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{called} has {len(data)} bytes; at most {MAX_BYTES} ({MAX_BYTES // 2**20} MiB) are accepted."
        )
    _check_size(called, *(webp_size(data) or (1, 1)))
    if found := excess(data):
        raise InputError(f"{called} has {found}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs, for which our own limit is lower, and of broken metadata
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(f"{called} has too many pixels; at most {MAX_PIXELS} are accepted.") from error
    except UnidentifiedImageError as error:
        raise UnsupportedImage(f"{called} is not a PNG, JPEG or WEBP, or its header is broken.") from error
    except Exception as error:
        raise InputError(f"{called} has a broken header.") from error
    try:
        if image.format not in (*FORMATS, _SEVERAL):
            raise UnsupportedImage(f"{called} is not a PNG, JPEG or WEBP.")
        _check_size(called, image.width, image.height)
        if image.format != _SEVERAL and getattr(image, "n_frames", 1) != 1:
            raise InputError(f"{called} is animated; one still picture is needed.")
    except InputError:
        image.close()
        raise
    except Exception as error:
        image.close()
        raise InputError(f"{called} has a broken header.") from error
    return image


def _check_size(called: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise InputError(
            f"{called} has {width}x{height} pixels; at most {MAX_PIXELS} pixels, {MAX_SIDE} a side, are accepted."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(f"{called} is {width}x{height}, too narrow: sides may differ by at most {MAX_ASPECT} times.")
