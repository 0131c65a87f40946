"""Near-duplicate screenshots, by perceptual hash.

Two screens are near-duplicates where their 1,024-bit pHashes differ in at most `distance` bits: ImageHash's pHash,
the 32x32 lowest frequencies of a 64x64 picture. One of the two is also tried moved by one pixel each way.
Measured on drawn 192x192 screens, of 1,024 bits, largest or smallest distance seen:

    re-encoded as JPEG quality 50 to 90 or WEBP     34      must be found
    brightness or contrast changed by up to 7%      38      must be found
    moved by one pixel                              56      must be found
    moved, brightened and JPEG-encoded              62      must be found
    the same form with another number in it         58      may be found: both then stay on one side
    the same calendar with another day selected    120      must not be found
    two unrelated screens                          396      must not be found

Hence the default of 64. Smaller hashes do not separate these cases: with 64 bits a copy moved by one pixel is
as far away as another selected day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from imagehash import phash
from numpy.typing import NDArray
from PIL import Image, ImageChops

from datasets_app.formats.pictures import decode

BITS = 1024
DEFAULT_DISTANCE = 64
_SIDE = 32
_WORDS = BITS // 64
_BLOCK = 256
_MOST = 512  # pixels a side from which a hash is taken: nine hashes of a large screen cost seconds otherwise

Hashes = NDArray[np.uint64]
"""Shape (9, 16): the packed hash of an image, then those of its copies moved by one pixel."""


def perceptual_hashes(path: Path) -> Hashes:
    """The hashes of one image and of its eight copies moved by one pixel."""
    gray = decode(path.read_bytes()).convert("L")
    gray.thumbnail((_MOST, _MOST), Image.Resampling.BOX)
    packed = [np.packbits(phash(moved, _SIDE, 2).hash).view(np.uint64) for moved in _moved(gray)]
    return np.stack(packed)


def near_pairs(
    first: list[Hashes], second: list[Hashes], distance: int = DEFAULT_DISTANCE
) -> Iterator[tuple[int, int]]:
    """Yield (i, j) for each `first[i]` and `second[j]` that are near-duplicates; all pairs are compared."""
    if not first or not second:
        return
    originals = np.stack([hashes[0] for hashes in first])
    moved = np.stack(second)
    for start in range(0, len(originals), _BLOCK):
        block = originals[start : start + _BLOCK]
        nearest = np.full((len(block), len(moved)), BITS, dtype=np.uint16)
        for variant in range(moved.shape[1]):
            differing = np.zeros_like(nearest)
            for word in range(_WORDS):
                differing += np.bitwise_count(block[:, None, word] ^ moved[None, :, variant, word])
            np.minimum(nearest, differing, out=nearest)
        for i, j in np.argwhere(nearest <= distance):
            yield start + int(i), int(j)


class Clusters:
    """Which of `count` things belong together (union-find)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def join(self, a: int, b: int) -> None:
        """Put the clusters of `a` and `b` together."""
        self._parent[self.root(a)] = self.root(b)

    def join_all(self, keys: Iterable[object]) -> None:
        """Put things with equal keys together; None is no key."""
        first: dict[object, int] = {}
        for index, key in enumerate(keys):
            if key is not None:
                self.join(index, first.setdefault(key, index))

    def root(self, a: int) -> int:
        """The one thing that stands for `a`'s cluster."""
        while self._parent[a] != a:
            self._parent[a] = a = self._parent[self._parent[a]]
        return a


def _moved(image: Image.Image) -> Iterator[Image.Image]:
    yield image
    width, height = image.size
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            if dx or dy:
                moved = ImageChops.offset(image, dx, dy)
                # the row and column that came in keep their old pixels instead of the far side's
                if dx:
                    x = 0 if dx > 0 else width - 1
                    moved.paste(image.crop((x, 0, x + 1, height)), (x, 0))
                if dy:
                    y = 0 if dy > 0 else height - 1
                    moved.paste(image.crop((0, y, width, y + 1)), (0, y))
                yield moved
