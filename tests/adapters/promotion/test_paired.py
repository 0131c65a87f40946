"""Comparing two routers on the same samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from adapters.promotion.paired import Outcome, compare
from adapters.promotion.statistics import mcnemar


def outcomes(right: int, wrong: int, prefix: str = "s") -> dict[str, bool]:
    return {f"{prefix}{n}": n < right for n in range(right + wrong)}


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_p_value_is_the_binomial_tests(wins: int, losses: int) -> None:
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar(wins, losses) == pytest.approx(expected)


def test_a_router_that_knows_a_new_expert_is_better() -> None:
    verdict = compare(outcomes(80, 20), outcomes(100, 0))
    assert (verdict.outcome, verdict.wins, verdict.losses) == (Outcome.BETTER, 20, 0)


def test_a_router_that_forgot_is_worse() -> None:
    assert compare(outcomes(100, 0), outcomes(80, 20)).outcome == Outcome.WORSE


def test_two_more_right_of_a_hundred_decide_nothing() -> None:
    assert compare(outcomes(97, 3), outcomes(99, 1)).outcome == Outcome.UNDECIDED


def test_equal_routers_decide_nothing() -> None:
    assert compare(outcomes(9, 0), outcomes(9, 0)).outcome == Outcome.UNDECIDED


def test_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="different samples"):
        compare(outcomes(9, 1), outcomes(9, 1, prefix="t"))
