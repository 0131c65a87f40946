"""Metrics against counts done by hand and published values."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.routing.metrics import (
    bootstrap_macro_f1,
    confusion,
    macro_f1,
    percentiles,
    recall_per_class,
    share,
    wilson,
)

LABELS = ("a", "b", "none")
TRUTH = ["a", "a", "a", "a", "b", "b", "b", "none", "none"]
ROUTED = ["a", "a", "a", "b", "b", "b", "none", "none", "none"]
MATRIX = [[3, 1, 0], [0, 2, 1], [0, 0, 2]]


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@given(n=st.integers(1, 5000), part=st.floats(0, 1))
def test_wilson_holds_the_share_and_mirrors(n: int, part: float) -> None:
    k = round(part * n)
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert low < high
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low))


def test_wilson_without_samples_and_with_nonsense() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    for k, n in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="between 0 and n"):
            wilson(k, n)


def test_counts_by_hand() -> None:
    assert confusion(LABELS, TRUTH, ROUTED) == MATRIX
    accuracy = share([a == b for a, b in zip(TRUTH, ROUTED, strict=True)])
    assert (accuracy.k, accuracy.n) == (7, 9)
    recalls = recall_per_class(LABELS, MATRIX)
    assert {label: (r.k, r.n) for label, r in recalls.items()} == {"a": (3, 4), "b": (2, 3), "none": (2, 2)}
    # F1: a 2*3/(4+3), b 2*2/(3+3), none 2*2/(2+3)
    assert macro_f1(MATRIX) == pytest.approx((6 / 7 + 4 / 6 + 4 / 5) / 3)


def test_a_label_that_never_occurs_does_not_count() -> None:
    assert macro_f1([[2, 0, 0], [0, 3, 0], [0, 0, 0]]) == 1.0
    assert macro_f1([[0, 2], [0, 0]]) == 0.0
    assert macro_f1([]) == 0.0


def test_unknown_labels_are_an_error() -> None:
    with pytest.raises(ValueError, match="unknown"):
        confusion(LABELS, ["a"], ["c"])


def test_the_bootstrap_is_the_one_of_resampled_samples() -> None:
    low, high = bootstrap_macro_f1(MATRIX)
    pairs = list(zip(TRUTH, ROUTED, strict=True))
    generator = random.Random(1)
    drawn = []
    for _ in range(2000):
        truth, routed = zip(*generator.choices(pairs, k=len(pairs)), strict=True)
        drawn.append(macro_f1(confusion(LABELS, truth, routed)))
    drawn.sort()
    assert (low, high) == pytest.approx((drawn[50], drawn[1949]), abs=0.04)
    assert bootstrap_macro_f1(MATRIX) == (low, high)
    assert bootstrap_macro_f1([[5, 0], [0, 5]]) == (1.0, 1.0)
    assert bootstrap_macro_f1([[0, 0], [0, 0]]) == (0.0, 1.0)


def test_percentiles_by_nearest_rank() -> None:
    assert percentiles([5, 1, 4, 2, 3]) == {"p50": 3, "p90": 5, "p99": 5}
    assert percentiles(range(1, 101)) == {"p50": 50, "p90": 90, "p99": 99}
    assert percentiles([]) == {}
