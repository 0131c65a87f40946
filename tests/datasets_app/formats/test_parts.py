"""Images of many parts, each of which costs time: they are refused before Pillow sees one."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from datasets_app.errors import InputError
from datasets_app.formats.images import check_file
from datasets_app.formats.parts import excess
from datasets_app.formats.pictures import check_image, decode, portable
from tests.datasets_app.formats.folder import Folder


def encoded(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(marker: int, data: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


JPEG, PNG, PROGRESSIVE = encoded("JPEG"), encoded("PNG"), encoded("JPEG", progressive=True)
BEGINS, ENDS = PROGRESSIVE.rindex(b"\xff\xda"), len(PROGRESSIVE) - 2
MEGABYTE = zlib.compress(bytes(2**20 - 1))

BOMBS = {
    "scans": (PROGRESSIVE[:ENDS] + PROGRESSIVE[BEGINS:ENDS] * 60 + PROGRESSIVE[ENDS:], "more than 64 scans"),
    "arithmetic": (JPEG.replace(b"\xff\xc0", b"\xff\xc9"), "arithmetic coding"),
    "comments": (JPEG[:2] + segment(0xFE) * 2000 + JPEG[2:], "too much metadata"),
    "exif": (JPEG[:2] + segment(0xE1, b"Exif\0\0x") * 2000 + JPEG[2:], "too much metadata"),
    "stray bytes": (JPEG[:2] + b"\xff" * 2000 + JPEG[2:], "too much metadata"),
    "markers": (JPEG[:2] + b"\xff\xf0" * 2000 + JPEG[2:], "too much metadata"),
    "large metadata": (JPEG[:2] + segment(0xE1, bytes(65_000)) * 80 + JPEG[2:], "too much metadata"),
    "profiles": (PNG[:33] + chunk(b"iCCP", b"k\0\0" + MEGABYTE) * 200 + PNG[33:], "more than 100 chunks"),
    "profiles behind": (PNG[:-12] + chunk(b"iCCP", b"k\0\0" + MEGABYTE) * 200 + PNG[-12:], "more than 100 chunks"),
    "texts behind an end": (PNG[:33] + chunk(b"IEND") + chunk(b"prIv") * 200 + PNG[33:], "more than 100 chunks"),
    "empty pixels": (PNG[:33] + chunk(b"IDAT") * 30_000 + PNG[33:], "more than 20000 chunks"),
}


@pytest.mark.parametrize(("data", "words"), BOMBS.values(), ids=BOMBS)
def test_an_image_of_too_many_parts_is_refused(folder: Folder, data: bytes, words: str) -> None:
    for read in (check_image, decode, portable):
        with pytest.raises(InputError, match=f"^The image has {words}"):
            read(data)
    path = folder.path / "bomb"
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"^image 'bomb' has {words}"):
        check_file(path, "bomb")


def test_ordinary_images_have_no_excess() -> None:
    subsampled = encoded("JPEG", progressive=True, quality=95, subsampling=2, comment=b"x" * 1000)
    described = encoded("JPEG", icc_profile=bytes(200_000), exif=b"Exif\0\0" + bytes(60_000))
    rows = zlib.compress(bytes(64 * 48 * 3 + 48), 0)
    pieces = b"".join(chunk(b"IDAT", rows[i : i + 1]) for i in range(len(rows)))
    by_the_byte = PNG[:33] + pieces + chunk(b"IEND")
    for data in (JPEG, PNG, PROGRESSIVE, subsampled, described, by_the_byte, encoded("WEBP")):
        assert excess(data) == ""
        assert decode(data).size == (64, 48)
    assert excess(PNG + bytes(10_000)) == excess(JPEG + bytes(10_000)) == ""


@pytest.mark.parametrize("whole", [JPEG, PNG], ids=["JPEG", "PNG"])
def test_whatever_is_cut_off_is_left_to_the_decoder(whole: bytes) -> None:
    assert {excess(whole[:length]) for length in range(200)} == {""}
