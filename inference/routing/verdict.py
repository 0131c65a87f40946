"""Which of two is better, judged on the same samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import comb

ALPHA = 0.05


class Outcome(StrEnum):
    """How the challenger did against the champion."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Verdict:
    """`wins` samples only the challenger got right, `losses` only the champion; `p` is the two-sided p-value."""

    outcome: Outcome
    wins: int
    losses: int
    samples: int
    p: float

    def __str__(self) -> str:
        return (
            f"{self.outcome}: of {self.samples} samples only the challenger gets {self.wins} right, "
            f"only the champion {self.losses} (exact McNemar test, p = {self.p:.3g})"
        )


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided p-value of the exact McNemar test: discordant pairs are coin flips if neither is better.

    McNemar, Psychometrika 12 (1947) 153-157, with the binomial distribution in place of its approximation.
    """
    discordant = wins + losses
    ways = sum(comb(discordant, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * ways / (1 << discordant))


def fisher(right_then: int, n_then: int, right_now: int, n_now: int) -> float:
    """One-sided p-value of Fisher's exact test: how likely as few right of `n_now` are, if nothing has changed.

    Fisher, Journal of the Royal Statistical Society 98 (1935) 39-82: given the margins, the count is hypergeometric.
    """
    right = right_then + right_now
    least = max(0, right - n_then)
    ways = sum(comb(n_now, k) * comb(n_then, right - k) for k in range(least, right_now + 1))
    return ways / comb(n_then + n_now, right)


def compare(champion: Mapping[str, bool], challenger: Mapping[str, bool], alpha: float = ALPHA) -> Verdict:
    """Compare which samples (by id) each got right; ValueError unless they are the same samples."""
    if champion.keys() != challenger.keys():
        raise ValueError("The two were evaluated on different samples.")
    wins = sum(challenger[key] and not champion[key] for key in champion)
    losses = sum(champion[key] and not challenger[key] for key in champion)
    p = mcnemar(wins, losses)
    outcome = Outcome.BETTER if wins > losses else Outcome.WORSE
    return Verdict(outcome if p <= alpha else Outcome.UNDECIDED, wins, losses, len(champion), p)
