"""What the evaluations on one dataset show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from adapters.models import AdapterVersion, Evaluation
from adapters.promotion.classes import ClassResult, Finding, check_recall, compare_class
from adapters.promotion.criteria import PromotionCriteria
from adapters.promotion.paired import Outcome, compare
from adapters.promotion.samples import answered_right, read_pair, routed_right
from adapters.promotion.statistics import lower_bound


@dataclass(frozen=True)
class DatasetResult:
    """Whether one dataset speaks for the challenger, and why, in sentences; `evaluation` is the challenger's."""

    evaluation: Evaluation
    finding: Finding
    reasons: tuple[str, ...]
    classes: tuple[ClassResult, ...] = ()

    def __str__(self) -> str:
        row, left_out = self.evaluation, self.evaluation.report.get("left_out", 0)
        figure = f"{row.accuracy:.1%} ({row.ci_low:.1%} to {row.ci_high:.1%}) of {row.samples} samples"
        without = f", {left_out} more left out that it was trained on" if left_out else ""
        return f"On {row.dataset_name}, {figure}{without}: {' '.join(self.reasons)}"


@dataclass(frozen=True)
class Change:
    """What the challenger's stack changes: classes that `both` know, those `gained`, those dropped as `asked`, and its
    experts that take the place of another version."""

    both: tuple[str, ...]
    gained: tuple[str, ...]
    dropped: tuple[str, ...]
    replaced: Mapping[AdapterVersion, AdapterVersion]


def check_first(evaluation: Evaluation, labels: Iterable[str], criteria: PromotionCriteria) -> DatasetResult:
    """Nothing serves yet: every class above the floor, and all together better than always naming the largest class."""
    classes = tuple(check_recall(name, routed_right(evaluation, [name]), criteria.floor) for name in labels)
    if (finding := _worst(classes)) is not Finding.APPROVED:
        return DatasetResult(evaluation, finding, _reasons(classes, finding), classes)
    right = routed_right(evaluation)
    largest = max(Counter(sample["label"] for sample in evaluation.report["samples"]).values()) / len(right)
    least = lower_bound(sum(right.values()), len(right))
    if least <= largest:
        reason = f"Its accuracy is at least {least:.1%}, no more than the largest class's share of {largest:.1%}."
        return DatasetResult(evaluation, Finding.UNDECIDED, (reason,), classes)
    return DatasetResult(evaluation, Finding.APPROVED, (f"Every class is above {criteria.floor:.0%}.",), classes)


def compare_routing(
    challenger: Evaluation, champion: Evaluation, change: Change, criteria: PromotionCriteria
) -> DatasetResult:
    """Every class that both know against the champion's, every gained one against the floor; then something gained."""
    known = tuple(
        compare_class(name, *read_pair(routed_right, champion, challenger, [name]), criteria.margin)
        for name in change.both
    )
    gained = tuple(check_recall(name, routed_right(challenger, [name]), criteria.floor) for name in change.gained)
    classes = (*known, *gained)
    if (finding := _worst(classes)) is not Finding.APPROVED:
        return DatasetResult(challenger, finding, _reasons(classes, finding), classes)
    kept = f"No class that both know falls by {100 * criteria.margin:g} points."
    if gained:
        return DatasetResult(challenger, Finding.APPROVED, (kept, *(row.reason for row in gained)), classes)
    if change.dropped:
        words = f"Dropped as asked: {', '.join(change.dropped)}."
        return DatasetResult(challenger, Finding.APPROVED, (kept, words), classes)
    test = compare(*read_pair(routed_right, champion, challenger, change.both))
    finding = OVERALL[test.outcome]
    words = f"On all classes that both know it is {WORDS[finding]}: {test}."
    return DatasetResult(challenger, finding, (kept, words), classes)


def compare_answers(
    challenger: Evaluation, champion: Evaluation, change: Change, criteria: PromotionCriteria, *, must_gain: bool
) -> DatasetResult:
    """The answers, end to end: no class of a replaced expert may fall by the margin, all together not be worse;
    `must_gain`: they must be better, where nothing else has changed."""
    classes = tuple(
        compare_class(
            expert.adapter.name,
            *read_pair(answered_right, champion, challenger, [expert.adapter.name]),
            criteria.margin,
            f"With {expert} in the place of {before}, the share of right answers in class {expert.adapter.name!r}",
        )
        for expert, before in change.replaced.items()
    )
    if (finding := _worst(classes)) is not Finding.APPROVED:
        return DatasetResult(challenger, finding, _reasons(classes, finding), classes)
    test = compare(*read_pair(answered_right, champion, challenger, change.both))
    finding = OVERALL[test.outcome]
    if finding is Finding.UNDECIDED and not must_gain:
        finding = Finding.APPROVED
    return DatasetResult(challenger, finding, (f"Right answers on the classes that both know: {test}.",), classes)


def merge(results: Sequence[DatasetResult]) -> DatasetResult:
    """Several results on one dataset, the worst with its reasons."""
    worst = _worst(results)
    reasons = tuple(reason for row in results if row.finding is worst for reason in row.reasons)
    classes = tuple(row for result in results for row in result.classes)
    return DatasetResult(results[0].evaluation, worst, reasons, classes)


OVERALL = {
    Outcome.BETTER: Finding.APPROVED,
    Outcome.WORSE: Finding.REFUSED,
    Outcome.UNDECIDED: Finding.UNDECIDED,
}
WORDS = {Finding.APPROVED: "better", Finding.REFUSED: "worse", Finding.UNDECIDED: "not shown to be better"}


def _worst(rows: Iterable[ClassResult | DatasetResult]) -> Finding:
    """Refused before undecided before approved."""
    findings = {row.finding for row in rows}
    return next((one for one in (Finding.REFUSED, Finding.UNDECIDED) if one in findings), Finding.APPROVED)


def _reasons(classes: Iterable[ClassResult], finding: Finding) -> tuple[str, ...]:
    return tuple(row.reason for row in classes if row.finding is finding)
