"""Which side of the split a screen is on: training, validation or evaluation.

Every job that reads a source dataset asks here. A screen's side follows from its source's content, the seed
and the fractions, if any are given, alone, never from which rows a job draws or what other sources it has; so with one
seed an expert is never trained on a screen on which its router, or the stack, is evaluated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from pydantic import Field, model_validator

from datasets_app.formats.duplicates import DEFAULT_DISTANCE
from datasets_app.formats.routing import SPLITS
from datasets_app.formats.rows import SourceRow
from datasets_app.formats.screens import Screens
from workers.recipes.job import RecipeSpec
from workers.recipes.sizing import HELD_OUT, LEAST, MOST, VAL


class Split(RecipeSpec):
    """Fractions of training, validation and evaluation samples; each may be 0, together they are 1.

    Three numbers in this order will do: `[0.8, 0.1, 0.1]`.
    """

    train: float = Field(ge=0, le=1)
    val: float = Field(ge=0, le=1)
    eval: float = Field(ge=0, le=1)

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
        drawn = draw(content, seed)
        if drawn < self.train:
            return "train"
        return "val" if drawn < self.train + self.val or self.eval == 0 else "eval"


def split_rule(split: Split | None) -> str:
    """In words, to tell datasets apart that are split otherwise."""
    if split is None:
        return f"{HELD_OUT} held out, {LEAST:g} to {MOST:g} of the screens; {VAL:.3g} validate"
    return "/".join(f"{getattr(split, side):g}" for side in SPLITS)


def draw(content: str, seed: int) -> float:
    """From 0 to 1, by a cluster's smallest content hash."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{content}".encode()).digest()[:8]) / 2**64


def sized_sides(screens: Mapping[str, int], seed: int) -> dict[str, str]:
    """The side of each cluster, by its smallest content hash, where no fractions are given: `sizing` says how much is
    held out. `screens` says how many different ones each holds.

    The highest draws are held out, so that a screen on which others were trained is never held out because its source
    has grown.
    """
    sides, before = {}, 0
    by_draw = sorted(screens, key=lambda content: draw(content, seed), reverse=True)
    for content in by_draw:
        drawn = draw(content, seed)
        is_needed = before < HELD_OUT and drawn >= 1 - MOST
        sides[content] = "eval" if is_needed or drawn >= 1 - LEAST else "val" if drawn < VAL else "train"
        before += screens[content]
    return {**sides, by_draw[-1]: "val", by_draw[0]: "eval"} if by_draw else {}


class SplitSource:
    """The rows of one whole source dataset with the side of each, by fractions or, without them, as `sizing` says.

    Rows whose screens are near-duplicates, and rows of one `group`, form a cluster and share a side. Per row,
    `contents` holds the SHA-256 of the image file, `hashes` its perceptual hashes, `screens` and `clusters` a number
    that its screen, or cluster, has alone.
    """

    def __init__(
        self, rows: Sequence[SourceRow], split: Split | None, seed: int, distance: int = DEFAULT_DISTANCE
    ) -> None:
        self.rows = list(rows)
        found = Screens(self.rows, distance)
        self.contents, self.hashes = found.contents, found.hashes
        self.screens = [found.same.root(index) for index in range(len(self.rows))]
        joined = found.same
        joined.join_all(row.group for row in self.rows)
        self.clusters = [joined.root(index) for index in range(len(self.rows))]
        smallest: dict[int, str] = {}
        of_cluster: dict[int, set[int]] = {}
        for cluster, content, screen in zip(self.clusters, self.contents, self.screens, strict=True):
            smallest[cluster] = min(content, smallest.get(cluster, content))
            of_cluster.setdefault(cluster, set()).add(screen)
        if split is None:
            sides = sized_sides({smallest[cluster]: len(screens) for cluster, screens in of_cluster.items()}, seed)
        else:
            sides = {content: split.side(content, seed) for content in smallest.values()}
        self.sides = [sides[smallest[cluster]] for cluster in self.clusters]
