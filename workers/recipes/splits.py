"""Which side of the split a screen is on: training, validation or evaluation.

Every job that reads a source dataset asks here. A screen's side follows from its source's content, the seed
and the fractions alone, never from which rows a job draws or what other sources it has; so with one seed an
expert is never trained on a screen on which its router, or the stack, is evaluated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pydantic import Field, model_validator

from datasets_app.formats.digest import file_digest
from datasets_app.formats.routing import SPLITS
from datasets_app.formats.rows import SourceRow
from workers.recipes.duplicates import DEFAULT_DISTANCE, Clusters, Hashes, near_pairs, perceptual_hashes
from workers.recipes.job import RecipeSpec


class Split(RecipeSpec):
    """Fractions of training, validation and evaluation samples; each may be 0, together they are 1.

    Three numbers in this order will do: `[0.8, 0.1, 0.1]`.
    """

    train: float = Field(default=0.8, ge=0, le=1)
    val: float = Field(default=0.1, ge=0, le=1)
    eval: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _from_three(cls, value: object) -> object:
        if isinstance(value, list | tuple) and len(value) == len(SPLITS):
            return dict(zip(SPLITS, value, strict=True))
        return value

    @model_validator(mode="after")
    def _whole(self) -> Split:
        if abs(self.train + self.val + self.eval - 1) > 1e-6:
            raise ValueError(f"train, val and eval must add up to 1, not {self.train + self.val + self.eval:g}")
        return self

    def counts(self, total: int) -> dict[str, int]:
        """`total` things shared out by largest remainder; a fraction above 0 gets at least one."""
        shares = {side: getattr(self, side) * total for side in SPLITS}
        counts = {side: max(int(share + 1e-9), int(share > 0)) for side, share in shares.items()}
        by_remainder = sorted(SPLITS, key=lambda side: shares[side] - counts[side], reverse=True)
        for side in by_remainder[: max(0, total - sum(counts.values()))]:
            counts[side] += 1
        counts[max(SPLITS, key=counts.__getitem__)] += total - sum(counts.values())
        return counts

    def side(self, content: str, seed: int) -> str:
        """The side of a cluster whose smallest content hash is `content`."""
        draw = int.from_bytes(hashlib.sha256(f"{seed}:{content}".encode()).digest()[:8]) / 2**64
        if draw < self.train:
            return "train"
        return "val" if draw < self.train + self.val or self.eval == 0 else "eval"


class SplitSource:
    """The rows of one whole source dataset with the side of each.

    Rows whose screens are near-duplicates, and rows of one `group`, form a cluster and share a side. Per row,
    `contents` holds the SHA-256 of the image file, `hashes` its perceptual hashes, `clusters` its cluster.
    """

    def __init__(self, rows: Sequence[SourceRow], split: Split, seed: int, distance: int = DEFAULT_DISTANCE) -> None:
        self.rows = list(rows)
        digests = {path: file_digest(path) for path in {row.image for row in rows}}
        self.contents = [digests[row.image] for row in self.rows]
        by_content: dict[str, Hashes] = {}
        for row, content in zip(self.rows, self.contents, strict=True):
            if content not in by_content:
                by_content[content] = perceptual_hashes(row.image)
        self.hashes = [by_content[content] for content in self.contents]
        joined = Clusters(len(self.rows))
        joined.join_all(self.contents)
        joined.join_all(row.group for row in self.rows)
        distinct = {content: index for index, content in enumerate(self.contents)}
        indices, hashes = list(distinct.values()), [by_content[content] for content in distinct]
        for i, j in near_pairs(hashes, hashes, distance):
            joined.join(indices[i], indices[j])
        self.clusters = [joined.root(index) for index in range(len(self.rows))]
        smallest: dict[int, str] = {}
        for cluster, content in zip(self.clusters, self.contents, strict=True):
            smallest[cluster] = min(content, smallest.get(cluster, content))
        self.sides = [split.side(smallest[cluster], seed) for cluster in self.clusters]
