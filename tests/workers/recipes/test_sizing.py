"""How much is held out: what the promotion rule needs, as far as a source can spare it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.promotion.statistics import samples_needed
from workers.recipes.sizing import SAMPLES, counts, held_out
from workers.recipes.splits import sized_sides


def clusters(number: int, screens: int = 1) -> dict[str, int]:
    return {hashlib.sha256(str(index).encode()).hexdigest(): screens for index in range(number)}


def held(sides: dict[str, str]) -> set[str]:
    return {content for content, side in sides.items() if side == "eval"}


@pytest.mark.parametrize(
    ("screens", "number"), [(1, 1), (3, 1), (50, 20), (150, 60), (300, 120), (600, 120), (1200, 120), (5000, 500)]
)
def test_120_screens_are_held_out_or_what_can_be_spared(screens: int, number: int) -> None:
    assert held_out(screens) == number


def test_the_default_shows_the_margin_of_the_promotion_rule_with_losses_to_spare() -> None:
    assert counts(SAMPLES) == {"train": 160, "val": 20, "eval": 120}
    assert held_out(150) >= samples_needed(0.05)


@given(samples=st.integers(3, 100_000))
def test_samples_are_shared_out_whole_with_some_on_each_side(samples: int) -> None:
    shared = counts(samples)
    assert sum(shared.values()) == samples
    assert min(shared.values()) >= 1


@pytest.mark.parametrize("screens", [400, 600, 1000])
def test_a_source_of_enough_screens_holds_out_120_for_every_seed(screens: int) -> None:
    for seed in range(20):
        assert 120 <= len(held(sized_sides(clusters(screens), seed))) <= 140


@given(small=st.integers(1, 700), more=st.integers(0, 700), seed=st.integers(0, 2**31 - 1))
def test_no_screen_that_others_were_trained_on_is_held_out_because_its_source_grows(
    small: int, more: int, seed: int
) -> None:
    before, after = sized_sides(clusters(small), seed), sized_sides(clusters(small + more), seed)
    assert held(after) & set(before) <= held(before)


@given(number=st.integers(3, 30), seed=st.integers(0, 2**31 - 1))
def test_the_smallest_source_has_a_screen_on_each_side(number: int, seed: int) -> None:
    assert {"val", "eval"} <= set(sized_sides(clusters(number), seed).values())


def test_groups_count_with_all_their_screens() -> None:
    sides = sized_sides(clusters(60, screens=10), 1)
    assert 10 * len(held(sides)) == 120


def test_no_source_has_no_sides() -> None:
    assert sized_sides({}, 0) == {}
