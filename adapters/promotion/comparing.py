"""Whether a stack may take the place of the champion: the one rule of pipelines, command, API and admin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from adapters.models import Evaluation, Stack
from adapters.promotion.classes import ClassResult, Finding
from adapters.promotion.criteria import PromotionCriteria
from adapters.promotion.dataset import Change, DatasetResult, check_first, compare_answers, compare_routing, merge


@dataclass(frozen=True)
class PromotionDecision:
    """What the evaluations come to, why (in words), the evaluation that decided, and its figures class by class."""

    finding: Finding
    reason: str
    evaluation: Evaluation | None = None
    classes: tuple[ClassResult, ...] = ()

    @property
    def approved(self) -> bool:
        """Whether the stack may take the champion's place."""
        return self.finding is Finding.APPROVED


def compare_stacks(stack: Stack, champion: Stack | None, criteria: PromotionCriteria) -> PromotionDecision:
    """Decide by the newest evaluations of both on each dataset whether `stack` may take the place of `champion`.

    Refused is a stack that loses a class of the champion's, unless `criteria` asks for that by name. On a dataset,
    every class that both know must be non-inferior, every new one above the floor; and the router must be better on
    what both know, or know a class more. Where it is the same router, its answers must be better. Experts that take the
    place of another version are held to the margin by their answers. One dataset for and another against is undecided.
    """
    router = stack.router
    newest = _newest(Evaluation.objects.filter(version=router))
    if champion is not None and champion.pk == stack.pk:
        return PromotionDecision(Finding.APPROVED, f"{router} serves already.", next(iter(newest.values()), None))
    if not newest:
        return PromotionDecision(Finding.REFUSED, f"{router} was never evaluated: evaluate it before it goes live.")
    if champion is None:
        return _combine(stack, [check_first(row, router.card["labels"], criteria) for row in newest.values()])
    change = _change(stack, champion, criteria)
    lost = sorted(set(champion.router.card["labels"]) - {*change.both, *change.dropped})
    if lost:
        words = f"{router} cannot name {', '.join(map(repr, lost))}, which {champion.router} serves: train it with"
        return PromotionDecision(Finding.REFUSED, f"{words} every class, or ask for the removal by name (`drop`).")
    results = _compare(stack, champion, change, criteria)
    return _combine(stack, results) if results else _never_compared(stack, champion, change)


def _change(stack: Stack, champion: Stack, criteria: PromotionCriteria) -> Change:
    old, new = champion.router.card["labels"], stack.router.card["labels"]
    before = {expert.adapter_id: expert for expert in champion.experts.select_related("adapter")}
    experts = stack.experts.select_related("adapter").order_by("adapter__name")
    replaced = {expert: before.get(expert.adapter_id, expert) for expert in experts}
    return Change(
        both=tuple(label for label in old if label in new),
        gained=tuple(label for label in new if label not in old),
        dropped=tuple(label for label in old if label not in new and label in criteria.drop),
        replaced={expert: other for expert, other in replaced.items() if expert != other},
    )


def _compare(stack: Stack, champion: Stack, change: Change, criteria: PromotionCriteria) -> list[DatasetResult]:
    """The result of each dataset on which both were asked what has to be known, newest first."""
    read: dict[int, Evaluation] = {}
    mine = _newest(Evaluation.objects.filter(version=stack.router), read)
    theirs = _newest(Evaluation.objects.filter(version=champion.router), read)
    answers = _newest(Evaluation.objects.filter(stack=stack), read)
    their_answers = _newest(Evaluation.objects.filter(stack=champion), read)
    is_same_router = stack.router_id == champion.router_id
    results = []
    for digest in mine:
        parts = []
        if not is_same_router and digest in theirs:
            parts.append(compare_routing(mine[digest], theirs[digest], change, criteria))
        if digest in answers and digest in their_answers:
            pair = answers[digest], their_answers[digest]
            parts.append(compare_answers(*pair, change, criteria, must_gain=is_same_router))
        elif is_same_router or change.replaced:
            continue
        if is_same_router or digest in theirs:
            results.append(merge(parts))
    return results


def _newest(rows: QuerySet[Evaluation], read: dict[int, Evaluation] | None = None) -> dict[str, Evaluation]:
    """The newest of each dataset by its digest, newest first; a row that is in `read` is not taken a second time, as
    its report may have been read."""
    read = {} if read is None else read
    newest: dict[str, Evaluation] = {}
    for row in rows.select_related("version__adapter").order_by("-created_at", "-id"):
        newest.setdefault(row.dataset_digest, read.setdefault(row.pk, row))
    return newest


def _combine(stack: Stack, results: Sequence[DatasetResult]) -> PromotionDecision:
    """One dataset for the stack and another against is undecided."""
    by_finding = {finding: [row for row in results if row.finding is finding] for finding in Finding}
    approved, refused = by_finding[Finding.APPROVED], by_finding[Finding.REFUSED]
    if approved and refused:
        finding, told = Finding.UNDECIDED, [approved[0], *refused]
    else:
        finding = next(one for one in (Finding.APPROVED, Finding.REFUSED, Finding.UNDECIDED) if by_finding[one])
        told = by_finding[finding]
    reason = f"{stack.router} is {finding.value}. {' '.join(map(str, told))}"
    return PromotionDecision(finding, reason, told[0].evaluation, told[0].classes)


def _never_compared(stack: Stack, champion: Stack, change: Change) -> PromotionDecision:
    if change.replaced:
        instead = ", ".join(f"{expert} in the place of {before}" for expert, before in change.replaced.items())
        words = f"{stack.router} with {instead} was never compared with the champion: evaluate both with their experts"
        how = "on one dataset (`evaluate … --stack`, `evaluate --serving … --stack`)."
    else:
        words = f"{stack.router} and the serving {champion.router} were never evaluated on the same samples: evaluate"
        how = "both on one dataset."
    return PromotionDecision(Finding.UNDECIDED, f"{words} {how}")
