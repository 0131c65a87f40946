"""Which of two is better, compared on the same samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from adapters.promotion.statistics import ALPHA, mcnemar


class Outcome(StrEnum):
    """How the challenger did against the champion."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class PairedTest:
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


def compare(champion: Mapping[str, bool], challenger: Mapping[str, bool], alpha: float = ALPHA) -> PairedTest:
    """Compare which samples (by id) each got right; ValueError unless they are the same samples."""
    if champion.keys() != challenger.keys():
        raise ValueError("The two were evaluated on different samples.")
    wins = sum(challenger[key] and not champion[key] for key in champion)
    losses = sum(champion[key] and not challenger[key] for key in champion)
    p = mcnemar(wins, losses)
    outcome = Outcome.BETTER if wins > losses else Outcome.WORSE
    return PairedTest(outcome if p <= alpha else Outcome.UNDECIDED, wins, losses, len(champion), p)
