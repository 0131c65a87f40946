"""The tests and bounds of the promotion rule."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import multinomial

from adapters.promotion.statistics import (
    ALPHA,
    lower_bound,
    margin_shown,
    noninferiority,
    samples_needed,
    upper_bound,
)


@pytest.mark.parametrize(("margin", "samples"), [(0.05, 59), (0.02, 149), (0.2, 14)])
def test_samples_without_a_loss_show_a_margin_from_a_least_number_on(margin: float, samples: int) -> None:
    assert samples_needed(margin) == samples
    assert noninferiority(0, 0, samples, margin) <= ALPHA < noninferiority(0, 0, samples - 1, margin)
    assert margin_shown(samples) <= margin < margin_shown(samples - 1)


def test_no_sample_shows_nothing() -> None:
    assert margin_shown(0) == 1
    assert noninferiority(0, 0, 0, 0.05) == 1


def test_a_loss_takes_more_samples_to_show_the_margin() -> None:
    """Without a win, the fewest losses are binomial at the margin."""
    assert noninferiority(0, 1, 93, 0.05) == pytest.approx(0.95**93 + 93 * 0.05 * 0.95**92)
    assert noninferiority(0, 1, 93, 0.05) <= ALPHA < noninferiority(0, 1, 92, 0.05)


def test_wins_make_up_for_losses() -> None:
    assert noninferiority(0, 6, 120, 0.05) > ALPHA
    assert noninferiority(54, 6, 120, 0.05) < 1e-6
    assert noninferiority(3, 3, 120, 0.05) <= ALPHA


def test_equally_good_ones_are_told_apart_from_worse_ones_with_enough_samples() -> None:
    """However often the two disagree."""
    assert noninferiority(5, 5, 60, 0.05) > ALPHA
    assert noninferiority(100, 100, 1200, 0.05) <= ALPHA


def test_a_fall_by_the_margin_passes_one_time_in_twenty_at_most() -> None:
    """All outcomes counted, for probabilities of a win between those over which the test maximises."""
    samples, margin = 25, 0.1
    pairs = [pair for pair in product(range(samples + 1), repeat=2) if sum(pair) <= samples]
    counts = np.array([(wins, losses, samples - wins - losses) for wins, losses in pairs])
    passes = np.array([noninferiority(wins, losses, samples, margin) <= ALPHA for wins, losses in pairs])
    assert passes.any()
    for win in np.linspace(0, (1 - margin) / 2, 83):
        for fall in (margin, margin + 0.03):
            if 2 * win + fall <= 1:
                odds = [win, win + fall, max(0.0, 1 - 2 * win - fall)]
                assert multinomial.pmf(counts, samples, odds)[passes].sum() <= ALPHA + 1e-6


def test_bounds_of_a_share_are_exact() -> None:
    assert lower_bound(14, 14) == pytest.approx(0.05 ** (1 / 14))
    assert lower_bound(7, 20) == pytest.approx(0.177, abs=0.001)
    assert lower_bound(0, 20) == lower_bound(0, 0) == 0
    assert upper_bound(0, 59) == pytest.approx(margin_shown(59))
    assert upper_bound(20, 20) == upper_bound(0, 0) == 1


@pytest.mark.parametrize("margin", [0, 1, -0.1, float("nan")])
def test_a_margin_lies_between_nought_and_one(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        noninferiority(0, 0, 10, margin)
    with pytest.raises(ValueError, match="margin"):
        samples_needed(margin)
