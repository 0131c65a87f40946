"""Images are refused by content and by header, before a pixel is decoded."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, PngImagePlugin

from datasets_app.errors import InputError
from datasets_app.formats.pictures import UnsupportedImage, check_image, decode, portable, reencode
from tests.odd_pictures import odd_pictures


def encoded(kind: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, 3).save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def webp_header(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + bytes(20)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_are_read(kind: str) -> None:
    assert check_image(encoded(kind)) == (kind, 40, 30)
    assert check_image(encoded("WEBP", lossless=True)) == ("WEBP", 40, 30)
    assert decode(encoded(kind)).mode == "RGB"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert decode(encoded("PNG", mode=mode)).mode == "RGB"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        *[encoded(kind) for kind in ("GIF", "BMP", "TIFF", "ICO", "PPM", "PDF")],
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBP",
        b"\xff\xd8\xff\xe0",
    ],
)
def test_anything_else_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        check_image(data)


@pytest.mark.parametrize(
    "data",
    [
        png_header(20_000, 20_000),
        png_header(65_535, 65_535),
        png_header(2**31 - 1, 2**31 - 1),
        png_header(1, 20_000),
        webp_header(16_384, 16_384),
        webp_header(1, 16_384),
        encoded("PNG", (6000, 6000)),
        encoded("PNG", (3, 400)),
        encoded("PNG") + bytes(21 * 2**20),
    ],
)
def test_too_large_or_too_narrow_is_refused_from_the_header(data: bytes) -> None:
    started = time.perf_counter()
    with pytest.raises(InputError):
        check_image(data)
    assert time.perf_counter() - started < 0.5


def test_a_bomb_takes_no_memory() -> None:
    code = (
        "import resource, struct, zlib; from tests.datasets_app.formats.test_pictures import *\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for data in (png_header(20000, 20000), webp_header(16384, 16384)):\n"
        "    try: decode(data)\n"
        "    except InputError: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20_000  # kB


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_truncated_images_are_refused(kind: str) -> None:
    noise = Image.effect_noise((120, 90), 80).convert("RGB")
    out = io.BytesIO()
    noise.save(out, kind)
    with pytest.raises(InputError):
        decode(out.getvalue()[: len(out.getvalue()) // 2])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animated_images_are_refused(kind: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="animated"):
        check_image(out.getvalue())


def test_text_chunks_cannot_fill_the_memory() -> None:
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 60_000_000))
    whole = encoded("PNG")
    with pytest.raises(InputError):
        decode(whole[:33] + text + whole[33:])


def test_reencoding_keeps_pixels_only() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("secret", "value")
    out = io.BytesIO()
    Image.effect_noise((40, 30), 80).convert("RGB").save(out, "PNG", pnginfo=info)
    clean = reencode(out.getvalue() + b"<script>")
    assert b"secret" not in clean
    assert b"script" not in clean
    assert check_image(clean) == ("PNG", 40, 30)
    assert decode(clean).tobytes() == decode(out.getvalue()).tobytes()


@pytest.mark.parametrize("place", [33, -12])  # behind IHDR, and behind IDAT, where only decoding reads it
@pytest.mark.parametrize(
    "kind", [b"iCCP", b"tRNS", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"pHYs", b"PLTE", b"IHDR"]
)
def test_broken_chunks_are_decoded_or_refused(kind: bytes, place: int) -> None:
    whole = encoded("PNG")
    for body in (b"", b"a", b"a\0", b"a\0\0", bytes(13)):
        for read in (check_image, decode, reencode, portable):
            with suppress(InputError):
                read(whole[:place] + chunk(kind, body) + whole[place:])


def test_an_empty_profile_behind_the_pixels_is_refused() -> None:
    whole = encoded("PNG")
    with pytest.raises(InputError, match="damaged"):
        decode(whole[:-12] + chunk(b"iCCP", b"") + whole[-12:])


def test_reencoding_drops_profile_and_transparent_colour() -> None:
    marked = encoded("PNG", icc_profile=b"somebody's", transparency=(3, 0, 0))
    for clean in (reencode(marked), portable(marked)):
        with Image.open(io.BytesIO(clean)) as image:
            image.load()
            assert image.info == {}


@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.data())
def test_any_damage_is_decoded_or_refused(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InputError):
        decode(bytes(damaged))


ODD = odd_pictures()


@pytest.mark.parametrize("case", ODD)
def test_an_odd_image_is_the_picture_that_a_viewer_shows(case: str) -> None:
    data, shown = ODD[case]
    for seen in (decode(data), decode(portable(data)), decode(reencode(data))):
        assert (seen.mode, seen.size) == ("RGB", shown.size)
        assert ImageChops.difference(seen, shown).getbbox() is None


@pytest.mark.parametrize("case", ODD)
def test_what_is_portable_is_the_same_picture_for_a_decoder_that_knows_nothing(case: str) -> None:
    with Image.open(io.BytesIO(portable(ODD[case][0]))) as image:
        assert ImageChops.difference(image.convert("RGB"), ODD[case][1]).getbbox() is None


def test_of_several_pictures_in_a_jpeg_the_first_counts() -> None:
    assert check_image(ODD["several pictures"][0]) == ("JPEG", 96, 64)
