"""Which side a screen is on: near-duplicates together, the same for every job with the seed."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageEnhance
from pydantic import ValidationError

from datasets_app.formats import read_source
from datasets_app.formats.duplicates import DEFAULT_DISTANCE, near_pairs, perceptual_hashes
from datasets_app.formats.rows import SourceRow
from datasets_app.samples.kinds import KINDS
from datasets_app.samples.screen import Screen
from datasets_app.samples.source import write_source
from workers.recipes.splits import Split, SplitSource


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


TOUCHED = {
    "jpeg": lambda image: jpeg(image, 60),
    "right": lambda image: ImageChops.offset(image, 1, 0),
    "up": lambda image: ImageChops.offset(image, 0, -1),
    "bright": lambda image: ImageEnhance.Brightness(image).enhance(1.05),
    "larger": lambda image: image.resize((288, 288)),
}


class Altered(Random):
    """Draws as its seed says, save that the marked day is another one."""

    def randint(self, a: int, b: int) -> int:
        drawn = super().randint(a, b)
        if (a, b) in {(1, days) for days in range(28, 32)} and not hasattr(self, "changed"):
            self.changed = True
            return a + (drawn - a + (b - a) // 2) % (b - a + 1)
        return drawn


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[SourceRow]:
    """Five screens and five touched copies of each."""
    folder = write_source("calendar", tmp_path_factory.mktemp("split") / "source", 5, seed=4)
    originals = list(read_source(folder))
    copies = []
    for row in originals:
        for name, touch in TOUCHED.items():
            path = row.image.with_name(f"{row.id}-{name}.png")
            touch(Image.open(row.image).convert("RGB")).save(path)
            copies.append(replace(row, id=path.stem, image=path, group=None))
    return originals + copies


@settings(deadline=None)  # the first example hashes the pictures
@given(seed=st.integers(0, 2**31), train=st.floats(0, 1), share=st.floats(0, 1))
def test_near_duplicates_are_never_on_two_sides(rows: list[SourceRow], seed: int, train: float, share: float) -> None:
    split = Split(train=train, val=(1 - train) * share, eval=1 - train - (1 - train) * share)
    source = SplitSource(rows, split, seed)
    sides: dict[str, set[str]] = {}
    for row, side in zip(source.rows, source.sides, strict=True):
        sides.setdefault(row.id.partition("-")[0], set()).add(side)
    assert len(sides) == 5
    assert all(len(found) == 1 for found in sides.values())


def test_a_group_shares_a_side(rows: list[SourceRow]) -> None:
    grouped = [replace(row, group="visit") for row in rows]
    assert len(set(SplitSource(grouped, None, 3).clusters)) == 1


def test_the_side_does_not_depend_on_the_order_of_rows(rows: list[SourceRow]) -> None:
    forward, backward = SplitSource(rows, None, 5), SplitSource(rows[::-1], None, 5)
    assert forward.sides == backward.sides[::-1]


def test_another_selected_day_is_another_screen(tmp_path: Path) -> None:
    hashes = []
    for number in range(6):
        for random in (Random(f"day{number}"), Altered(f"day{number}")):
            path = tmp_path / f"{len(hashes)}.png"
            KINDS["calendar"].draw(Screen(random)).image.save(path)
            hashes.append(perceptual_hashes(path))
    pairs = {pair for pair in near_pairs(hashes, hashes, DEFAULT_DISTANCE) if pair[0] < pair[1]}
    assert pairs == set()


@given(seed=st.integers(0, 2**31), content=st.text("0123456789abcdef", min_size=8))
def test_a_smaller_training_share_only_holds_out_more(seed: int, content: str) -> None:
    wide, narrow = Split(train=0.8, val=0.1, eval=0.1), Split(train=0.6, val=0.2, eval=0.2)
    if wide.side(content, seed) != "train":
        assert narrow.side(content, seed) != "train"


@given(total=st.integers(3, 5000), val=st.floats(0, 0.4), evaluation=st.floats(0, 0.4))
def test_counts_add_up(total: int, val: float, evaluation: float) -> None:
    split = Split(train=1 - val - evaluation, val=val, eval=evaluation)
    counts = split.counts(total)
    assert sum(counts.values()) == total
    assert all(count >= (getattr(split, side) > 0) for side, count in counts.items())
    assert all(abs(count - getattr(split, side) * total) <= 2 for side, count in counts.items())


def test_counts_of_given_fractions() -> None:
    assert Split(train=0.8, val=0.1, eval=0.1).counts(300) == {"train": 240, "val": 30, "eval": 30}
    assert Split(train=0, val=0, eval=1).counts(7) == {"train": 0, "val": 0, "eval": 7}


def test_a_split_must_be_whole() -> None:
    assert Split.model_validate([0.5, 0.25, 0.25]) == Split(train=0.5, val=0.25, eval=0.25)
    for wrong in ([0.5, 0.25, 0.5], [1.5, -0.5, 0], [float("nan"), 0, 1], [1, 0]):
        with pytest.raises(ValidationError):
            Split.model_validate(wrong)
