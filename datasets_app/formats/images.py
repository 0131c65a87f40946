"""Screenshots in a dataset: where they may lie and what they may be."""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from datasets_app.errors import InputError
from datasets_app.formats.parts import excess
from datasets_app.formats.webp import webp_size

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 20 * 2**20
MAX_PIXELS = 25_000_000  # a 6K screen; 75 MB decoded
MAX_RATIO = 100  # Qwen-VL's image processor raises above 200
MIN_SIDE = 4


def resolve_image(folder: Path, name: object) -> Path:
    """Path of the image that a row calls `name`: a regular file inside `folder` once links are followed."""
    if not isinstance(name, str) or not name:
        raise InputError("field 'image' must be the path of one image file, relative to the dataset's folder.")
    shown = repr(name[:120])
    if "://" in name or name.startswith("data:"):
        raise InputError(f"image {shown} is a URL; only files inside the dataset's folder are read.")
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve()) and not Path(name).is_absolute() and "\\" not in name
        mode = path.stat().st_mode if inside else 0
    except FileNotFoundError:
        raise InputError(f"image {shown} is missing.") from None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a loop of links, below a file
        raise InputError(f"image {shown} is not a usable path.") from None
    if not inside:
        raise InputError(f"image {shown} lies outside the dataset's folder.")
    if not stat.S_ISREG(mode):
        raise InputError(f"image {shown} is not a regular file.")
    return path


def check_image(path: Path, name: str) -> None:
    """Refuse what is no whole, still PNG, JPEG or WEBP of a sensible size and of few parts, judged from the header."""
    shown = repr(name[:120])
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"image {shown} is larger than {MAX_BYTES // 2**20} MiB.")
    try:
        data = path.read_bytes()
        _check_size(shown, *(webp_size(data) or (MIN_SIDE, MIN_SIDE)))
        if found := excess(data):
            raise InputError(f"image {shown} has {found}.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(shown, *image.size)
                if getattr(image, "n_frames", 1) > 1:
                    raise InputError(f"image {shown} is animated; one still picture is needed.")
                image.load()
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"image {shown} has too many pixels; at most {MAX_PIXELS} are read.") from None
    except UnidentifiedImageError:
        raise InputError(f"image {shown} is not a PNG, JPEG or WEBP.") from None
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise InputError(f"image {shown} is damaged or truncated.") from None


def _check_size(shown: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"image {shown} has {width}x{height} pixels; at most {MAX_PIXELS} are read.")
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_RATIO * min(width, height):
        raise InputError(f"image {shown} is {width}x{height}: too narrow for a screenshot.")
