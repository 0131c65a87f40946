"""What the samples of one class show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from adapters.promotion.paired import Outcome, compare
from adapters.promotion.statistics import (
    ALPHA,
    lower_bound,
    noninferiority,
    samples_for_margin,
    samples_for_share,
    samples_needed,
    upper_bound,
)


class Finding(StrEnum):
    """Whether something speaks for a challenger, against it, or neither."""

    APPROVED = "approved"
    REFUSED = "refused"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class ClassResult:
    """How a challenger does on one class: `right` of `samples`, and why that is enough or not, as a sentence."""

    label: str
    finding: Finding
    right: int
    samples: int
    reason: str


def compare_class(
    label: str, champion: Mapping[str, bool], challenger: Mapping[str, bool], margin: float, what: str = ""
) -> ClassResult:
    """A class that both know: its share of right samples must fall by less than `margin`; both were asked the same.

    `what` stands in the sentences for the class.
    """
    what, points = what or f"Class {label!r}", f"{100 * margin:g} points"
    test, right = compare(champion, challenger), sum(challenger.values())

    def result(finding: Finding, reason: str) -> ClassResult:
        return ClassResult(label, finding, right, test.samples, reason)

    if not test.samples:
        return result(
            Finding.UNDECIDED, f"{what} has no samples, {samples_needed(margin)} are needed to show {points}."
        )
    p = noninferiority(test.wins, test.losses, test.samples, margin)
    figures = f"{right} of {test.samples} right, the champion {sum(champion.values())}"
    if p <= ALPHA:
        return result(Finding.APPROVED, f"{what} falls by less than {points}: {figures} (p = {p:.2g}).")
    if test.outcome == Outcome.WORSE:
        return result(Finding.REFUSED, f"{what} is worse: {figures} (exact McNemar test, p = {test.p:.2g}).")
    needed = _needed(samples_for_margin(test.wins, test.losses, test.samples, margin))
    return result(
        Finding.UNDECIDED, f"{what} is not shown to fall by less than {points}: {figures} (p = {p:.2g}); {needed}."
    )


def check_recall(label: str, challenger: Mapping[str, bool], floor: float) -> ClassResult:
    """A class that the champion does not know: the lower end of its recall must be above `floor`."""
    samples, right = len(challenger), sum(challenger.values())

    def result(finding: Finding, reason: str) -> ClassResult:
        return ClassResult(label, finding, right, samples, f"New class {label!r} {reason}")

    if not samples:
        least_samples = samples_needed(1 - floor)
        return result(Finding.UNDECIDED, f"has no samples, {least_samples} are needed to show more than {floor:.0%}.")
    least, most = lower_bound(right, samples), upper_bound(right, samples)
    figures = f"{right} of {samples} right, {least:.1%} to {most:.1%}"
    if least > floor:
        return result(Finding.APPROVED, f"is above the floor of {floor:.0%}: {figures}.")
    if most < floor:
        return result(Finding.REFUSED, f"is below the floor of {floor:.0%}: {figures}.")
    needed = _needed(samples_for_share(right, samples, floor))
    return result(Finding.UNDECIDED, f"is not shown to be above the floor of {floor:.0%}: {figures}; {needed}.")


def _needed(samples: int | None) -> str:
    return f"about {samples} samples are needed" if samples else "at this rate no number of samples shows it"
