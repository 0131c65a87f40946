"""Probabilities over names."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.routing.scoring import best, probabilities

scores = st.dictionaries(st.text(max_size=5), st.floats(-1e6, 0), min_size=1, max_size=12)


@given(scores)
def test_probabilities_sum_to_one_and_keep_the_order(likelihoods: dict[str, float]) -> None:
    found = probabilities(likelihoods)
    assert list(found) == list(likelihoods)
    assert math.fsum(found.values()) == pytest.approx(1)
    assert found[best(likelihoods)] == max(found.values())


@given(scores, st.floats(-1000, 1000))
def test_only_differences_count(likelihoods: dict[str, float], shift: float) -> None:
    shifted = {name: value + shift for name, value in likelihoods.items()}
    assert probabilities(shifted) == pytest.approx(probabilities(likelihoods), abs=1e-6)


@pytest.mark.parametrize("wrong", [{}, {"a": math.nan}, {"a": -math.inf}])
def test_what_is_not_finite_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Finite"):
        probabilities(wrong)


def test_of_equal_scores_the_first_wins() -> None:
    assert best({"b": -1.0, "a": -1.0}) == "b"
