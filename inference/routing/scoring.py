"""From log-likelihoods of whole names to probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping


def probabilities(log_likelihoods: Mapping[str, float]) -> dict[str, float]:
    """Softmax over the names: how likely each is, given that the router answers one of them.

    The likelihood of a name is that of its tokens, and of the end token where other names continue it: no answer
    counts for two names, so this is the exact posterior over the names that an answer may begin with. ValueError
    if empty or not finite.
    """
    if not log_likelihoods or not all(math.isfinite(value) for value in log_likelihoods.values()):
        raise ValueError("Finite log-likelihoods of at least one name are needed.")
    highest = max(log_likelihoods.values())
    weights = {name: math.exp(value - highest) for name, value in log_likelihoods.items()}
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def best(scores: Mapping[str, float]) -> str:
    """The name with the highest score; of equal ones the first."""
    return max(scores, key=lambda name: scores[name])
