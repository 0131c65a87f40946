"""The parts of an encoded image, counted before any is decoded: each costs time of its own, however small it is."""

from __future__ import annotations

MAX_SCANS = 64  # each a pass over all pixels; a progressive JPEG has about ten
MAX_SEGMENTS = 1024  # and stray bytes, before a JPEG's first scan
MAX_HEADER = 4 * 2**20  # of a JPEG; Pillow copies it again and again
MAX_CHUNKS = 100  # of a PNG, each of which may hold a megabyte compressed
MAX_PIXEL_CHUNKS = 20_000  # more than one a row

_SOS = 0xDA
_ARITHMETIC = {0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # no limit on what a byte costs; no browser shows it
_BARE = {0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}  # markers that Pillow takes to have no length


def excess(data: bytes) -> str:
    """What the JPEG or PNG has that would take too long to decode, in words to follow "has"; "" if nothing."""
    if data.startswith(b"\xff\xd8\xff"):
        # Within pixels FF is followed by 00, so only metadata can make this number higher than that of the scans.
        return f"more than {MAX_SCANS} scans" if data.count(b"\xff\xda") > MAX_SCANS else _of_header(data)
    return _of_chunks(data) if data.startswith(b"\x89PNG\r\n\x1a\n") else ""


def _of_header(data: bytes) -> str:
    """Walk a JPEG's header as Pillow does, which passes over stray bytes."""
    place = 2
    for _ in range(MAX_SEGMENTS):
        if place > MAX_HEADER:
            break
        if data[place : place + 1] != b"\xff" or data[place + 1 : place + 2] == b"\xff":
            place += 1
            continue
        marker = data[place + 1] if place + 1 < len(data) else _SOS
        if marker in _ARITHMETIC:
            return "arithmetic coding, which is not read"
        if marker == _SOS:
            return ""
        place += 2 if marker in _BARE else 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    return "" if place >= len(data) else "too much metadata"


def _of_chunks(data: bytes) -> str:
    pixels = others = 0
    place, kind = 8, b""
    while place < len(data) and not (kind == b"IEND" and pixels):
        kind = data[place + 4 : place + 8]
        if kind == b"IDAT":
            pixels += 1
        else:
            others += 1
        if pixels > MAX_PIXEL_CHUNKS or others > MAX_CHUNKS:
            return f"more than {MAX_PIXEL_CHUNKS if pixels > MAX_PIXEL_CHUNKS else MAX_CHUNKS} chunks"
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return ""
