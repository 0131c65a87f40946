"""Encoded pictures that decoders see differently, each beside the RGB picture that it shows."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageDraw, ImageOps

SIZE = (96, 64)
UNTURNED = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
"""By EXIF orientation, the one that undoes its turn."""


def screen(shade: int = 40) -> Image.Image:
    """A picture that looks different whichever way it is turned."""
    image = Image.new("RGB", SIZE, (230, 220, 250 - shade))
    draw = ImageDraw.Draw(image)
    draw.rectangle((4, 6, 30, 20), fill=(200, shade, 10))
    draw.rectangle((60, 40, 90, 44), fill=(10, 120, shade * 2))
    draw.line((0, 63, 95, 30), fill=(shade, shade, shade), width=3)
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture's file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as a viewer turns it that finds the orientation in its metadata."""
    tagged = image.copy()
    tagged.getexif()[0x0112] = orientation
    return ImageOps.exif_transpose(tagged)


def tag(orientation: object) -> Image.Exif:
    """Metadata with that orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png(depth: int, colour: int, row: bytes, height: int, width: int, transparent: bytes = b"") -> bytes:
    """A PNG of equal rows, of any depth and colour type."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress((b"\0" + row) * height))
        + chunk(b"IEND", b"")
    )


def columns(*shades: Any, height: int = 32, each: int = 1) -> Image.Image:
    """A picture of equal rows, its pixels given from left to right."""
    row = [shade if isinstance(shade, tuple) else (shade,) * 3 for shade in shades for _ in range(each)]
    image = Image.new("RGB", (len(row), height))
    image.putdata(row * height)
    return image


def odd_pictures() -> dict[str, tuple[bytes, Image.Image]]:
    """By name, the file and what it shows."""
    image = screen()
    cases = {
        f"PNG turned by {way}": (encoded(turned(image, UNTURNED[way]), exif=tag(way)), image) for way in range(1, 9)
    }
    sideways = turned(image, 8)
    cases["WEBP turned by 6"] = (encoded(sideways, "WEBP", lossless=True, exif=tag(6)), image)
    jpeg = encoded(sideways, "JPEG", quality=90)
    with Image.open(io.BytesIO(jpeg)) as opened:
        cases["JPEG turned by 6"] = (
            encoded(sideways, "JPEG", quality=90, exif=tag(6)),
            turned(opened.convert("RGB"), 6),
        )
    cases["orientation that is none"] = (encoded(image, exif=tag(77)), image)
    broken = b"Exif\0\0II*\0\xff\xff\xff\x00garbage"
    cases["broken metadata"] = (encoded(image, "WEBP", lossless=True, exif=broken), image)
    cases |= _transparent(image) | _depths()
    cmyk = encoded(image.convert("CMYK"), "JPEG", quality=95)
    with Image.open(io.BytesIO(cmyk)) as opened:
        cases["CMYK"] = (cmyk, opened.convert("RGB"))
    several = encoded(image, "MPO", quality=90, save_all=True, append_images=[screen(90)])
    with Image.open(io.BytesIO(encoded(image, "JPEG", quality=90))) as opened:
        cases["several pictures"] = (several, opened.convert("RGB"))
    palette = image.quantize(16)
    cases["palette"] = (encoded(palette), palette.convert("RGB"))
    return cases


def _transparent(image: Image.Image) -> dict[str, tuple[bytes, Image.Image]]:
    """The upper half transparent, with black behind it, is white; so is what has a transparent colour."""
    alpha = Image.new("L", SIZE, 255)
    alpha.paste(0, (0, 0, SIZE[0], SIZE[1] // 2))
    behind, shown = image.copy(), image.copy()
    behind.paste("black", (0, 0, SIZE[0], SIZE[1] // 2))
    shown.paste("white", (0, 0, SIZE[0], SIZE[1] // 2))
    behind.putalpha(alpha)
    grey = behind.convert("LA")
    cases = {
        "RGBA": (encoded(behind), shown),
        "RGBA in WEBP": (encoded(behind, "WEBP", lossless=True, exact=True), shown),
        "grey with alpha": (encoded(grey), shown.convert("L").convert("RGB")),
    }
    half = Image.new("RGBA", SIZE, (0, 0, 0, 102))  # of 255: white shines through by 60%
    cases["half transparent"] = (encoded(half), Image.new("RGB", SIZE, (153, 153, 153)))
    flat = Image.new("P", SIZE, 0)
    flat.putpalette([255, 0, 0, 0, 0, 255])
    flat.paste(1, (0, 0, 40, 40))
    blue = Image.new("RGB", SIZE, "white")
    blue.paste((0, 0, 255), (0, 0, 40, 40))
    cases["palette with a transparent colour"] = (encoded(flat, transparency=0), blue)
    return cases


def _depths() -> dict[str, tuple[bytes, Image.Image]]:
    """PNG's depths other than 8, with and without a transparent colour."""
    grey = struct.pack(">4H", 0, 0x1234, 0x8000, 0xFFFF) * 8
    colour = struct.pack(">6H", 0xFF00, 0x8000, 0x0100, 0x0101, 0x0202, 0x0303) * 16
    both = struct.pack(">4H", 0x4000, 0xFFFF, 0x4000, 0) * 16
    shades, colours = (0, 0x12, 0x80, 0xFF), ((255, 128, 1), (1, 2, 3))
    return {
        "16-bit grey": (png(16, 0, grey, 32, 32), columns(*shades * 8)),
        "16-bit grey, one transparent": (
            png(16, 0, grey, 32, 32, b"\x12\x34"),
            columns(*(0, 255, 0x80, 0xFF) * 8),
        ),
        "16-bit colour": (png(16, 2, colour, 32, 32), columns(*colours * 16)),
        "16-bit colour, one transparent": (
            png(16, 2, colour, 32, 32, struct.pack(">3H", 0xFF00, 0x8000, 0x0100)),
            columns(*((255, 255, 255), (1, 2, 3)) * 16),
        ),
        "16-bit grey with alpha": (png(16, 4, both, 32, 32), columns(*(0x40, 255) * 16)),
        "4-bit grey": (png(4, 0, b"\x0a\x5f" * 8, 32, 32), columns(*(0, 170, 85, 255) * 8)),
        "4-bit grey, one transparent": (
            png(4, 0, b"\x0a\x5f" * 8, 32, 32, b"\0\x0a"),
            columns(*(0, 255, 85, 255) * 8),
        ),
        "2-bit grey, one transparent": (
            png(2, 0, b"\x1b" * 8, 32, 32, b"\0\x01"),
            columns(*(0, 255, 170, 255) * 8),
        ),
        "1-bit grey, one transparent": (png(1, 0, b"\x5a" * 4, 32, 32, b"\0\0"), columns(*(255,) * 32)),
    }
