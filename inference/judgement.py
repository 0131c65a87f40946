"""Whether a stack may take the place of the one that serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db.models import QuerySet

from adapters.models import AdapterVersion, Evaluation, Stack
from adapters.promotion.paired import Outcome, compare


@dataclass(frozen=True)
class Judgement:
    """Whether a stack may take the place of the one that serves, why (in words), and on which evaluation."""

    may_serve: bool
    words: str
    evaluation: Evaluation | None = None


def judge(stack: Stack, serving: Stack | None, evaluation: Evaluation | None = None) -> Judgement:
    """Whether `stack` may serve, by `evaluation` or any evaluation of its router.

    Where another router serves, the exact McNemar test on the same samples must say that it is better. A class that
    the serving router does not know counts as its mistake; so that a new class cannot hide a loss elsewhere, the
    challenger must not be worse on the classes that both know, nor answer worse there, as far as both stacks were
    evaluated. Where the same router serves with other experts, the test is of the answers. Other versions of experts
    that serve need that evaluation of both stacks, and none of them may be answered worse in its class.
    """
    version = stack.router
    evaluations = [evaluation] if evaluation else list(Evaluation.objects.filter(version=version))
    if not evaluations:
        return Judgement(False, f"{version} was never evaluated: evaluate it before it goes live.")
    if serving is None:
        return Judgement(True, f"{version} is the first to serve: {_figure(evaluations[0])}.", evaluations[0])
    if serving.pk == stack.pk:
        return Judgement(True, f"{version} serves already.", evaluations[0])
    replaced = _replaced(stack, serving)
    judgements = [judged for row in evaluations if (judged := _compare(row, stack, serving, replaced))]
    return max(judgements, key=lambda judged: judged.may_serve, default=_unjudged(stack, serving, replaced))


def _unjudged(stack: Stack, serving: Stack, replaced: dict[AdapterVersion, AdapterVersion]) -> Judgement:
    """Nothing to compare by: what has to be evaluated."""
    if not replaced:
        words = f"{stack.router} and the serving {serving.router} were never evaluated on the same samples"
        return Judgement(False, f"{words}: evaluate both on one dataset.")
    instead = ", ".join(f"{expert} in the place of {before}" for expert, before in replaced.items())
    how = "evaluate both with their experts on one dataset (`evaluate … --stack`, `evaluate --serving … --stack`)"
    return Judgement(False, f"{stack.router} with {instead} was never compared with what serves: {how}.")


def _replaced(stack: Stack, serving: Stack) -> dict[AdapterVersion, AdapterVersion]:
    """The experts of `stack` that would take the place of another version, and that version."""
    before = {expert.adapter_id: expert for expert in serving.experts.select_related("adapter")}
    experts = stack.experts.select_related("adapter").order_by("adapter__name")
    old = {expert: before.get(expert.adapter_id, expert) for expert in experts}
    return {expert: version for expert, version in old.items() if version != expert}


def _compare(
    evaluation: Evaluation, stack: Stack, serving: Stack, replaced: dict[AdapterVersion, AdapterVersion]
) -> Judgement | None:
    """By one evaluation; None where that leaves open what has to be known."""
    answers = _compare_answers(evaluation, stack, serving, replaced)
    if replaced and answers is None:
        return None
    if stack.router_id == serving.router_id:
        return answers
    routing = _compare_routing(evaluation, serving.router)
    if routing is None or not routing.may_serve or answers is None:
        return routing
    return Judgement(answers.may_serve, f"{routing.words} {answers.words}", evaluation)


def _compare_routing(evaluation: Evaluation, serving: AdapterVersion) -> Judgement | None:
    """Which samples are routed right; None if the serving router was never asked the same."""
    theirs = _counterpart(evaluation, routed_right, Evaluation.objects.filter(version=serving))
    if theirs is None:
        return None
    challenger = evaluation.version
    verdict = compare(routed_right(theirs), routed_right(evaluation))
    if verdict.outcome != Outcome.BETTER:
        return Judgement(False, f"{challenger} does not beat the serving {serving}; {verdict}.", evaluation)
    labels = frozenset(serving.card["labels"])
    known = compare(routed_right(theirs, labels), routed_right(evaluation, labels))
    if known.outcome == Outcome.WORSE:
        words = f"{challenger} is worse than the serving {serving} on the classes that both know; {known}."
        return Judgement(False, words, evaluation)
    return Judgement(True, f"{challenger} beats the serving {serving}; {verdict}.", evaluation)


def _compare_answers(
    evaluation: Evaluation, stack: Stack, serving: Stack, replaced: dict[AdapterVersion, AdapterVersion]
) -> Judgement | None:
    """Which samples are answered right, end to end; None unless both stacks were asked the same."""
    if evaluation.stack_id != stack.pk:
        return None
    theirs = _counterpart(evaluation, answered_right, Evaluation.objects.filter(stack=serving))
    if theirs is None:
        return None
    for expert, before in replaced.items():
        label = frozenset([expert.adapter.name])
        verdict = compare(answered_right(theirs, label), answered_right(evaluation, label))
        instead = f"With {expert} in the place of {before}"
        if not verdict.samples:
            words = f"{instead}, {evaluation.dataset_name} holds no sample of it with a known answer to judge it by."
            return Judgement(False, words, evaluation)
        if verdict.outcome == Outcome.WORSE:
            return Judgement(False, f"{instead} its class is answered worse; {verdict}.", evaluation)
    labels = frozenset(serving.router.card["labels"])
    verdict = compare(answered_right(theirs, labels), answered_right(evaluation, labels))
    if stack.router_id == serving.router_id:
        words = f"{stack.router} with other experts, by right answers: {verdict}."
        return Judgement(verdict.outcome == Outcome.BETTER, words, evaluation)
    words = f"Right answers on the classes that both know: {verdict}."
    return Judgement(verdict.outcome != Outcome.WORSE, words, evaluation)


def _counterpart(
    evaluation: Evaluation, right: Callable[[Evaluation], dict[str, bool]], others: QuerySet[Evaluation]
) -> Evaluation | None:
    """The newest of `others` of which `right` knows the very samples that it knows of `evaluation`."""
    samples = right(evaluation).keys()
    for other in others.filter(dataset_digest=evaluation.dataset_digest):
        if right(other).keys() == samples:
            return other
    return None


def _figure(evaluation: Evaluation) -> str:
    return f"{evaluation.accuracy:.1%} of {evaluation.samples} samples on {evaluation.dataset_name}"


def routed_right(evaluation: Evaluation, labels: frozenset[str] | None = None) -> dict[str, bool]:
    """Which samples (by id) were routed right; `labels` leaves only those of these classes."""
    return {
        sample["id"]: sample["correct"]
        for sample in evaluation.report["samples"]
        if labels is None or sample["label"] in labels
    }


def answered_right(evaluation: Evaluation, labels: frozenset[str] | None = None) -> dict[str, bool]:
    """Which samples (by id) the stack answered exactly, of those whose answer is known; `labels` likewise."""
    return {
        sample["id"]: sample["end_to_end"]["exact"]
        for sample in evaluation.report["samples"]
        if "end_to_end" in sample and (labels is None or sample["label"] in labels)
    }
