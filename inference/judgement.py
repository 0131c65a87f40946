"""Whether a router may take the place of the one that serves."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from adapters.models import AdapterVersion, Evaluation, Stack
from inference.routing.verdict import Outcome, Verdict, compare


@dataclass(frozen=True)
class Judgement:
    """Whether a router may take the place of the one that serves, why (one sentence), and on which evaluation."""

    may_serve: bool
    words: str
    evaluation: Evaluation | None = None


def judge(stack: Stack, serving: Stack | None, evaluation: Evaluation | None = None) -> Judgement:
    """Whether `stack` may serve, by `evaluation` or any evaluation of its router.

    Where another router serves, the exact McNemar test on the same samples must say that it is better. A class that
    the serving router does not know counts as its mistake; so that a new class cannot hide a loss elsewhere, the
    challenger must not be worse on the classes that both know. Where the same router serves with other experts, the
    test is of the answers.
    """
    version = stack.router
    evaluations = [evaluation] if evaluation else list(Evaluation.objects.filter(version=version))
    if not evaluations:
        return Judgement(False, f"{version} was never evaluated: evaluate it before it goes live.")
    if serving is None:
        return Judgement(True, f"{version} is the first to serve: {_figure(evaluations[0])}.", evaluations[0])
    if serving.pk == stack.pk:
        return Judgement(True, f"{version} serves already.", evaluations[0])
    if serving.router_id == version.pk:
        answered = [row for row in evaluations if row.stack_id == stack.pk]
        judgements = [judged for row in answered if (judged := _compare_answers(row, serving))]
        words = f"{version} with these experts and with those that serve was never evaluated on the same samples: "
    else:
        judgements = [judged for row in evaluations if (judged := _compare(row, serving.router))]
        words = f"{version} and the serving {serving.router} were never evaluated on the same samples: "
    if not judgements:
        return Judgement(False, words + "evaluate both on one dataset.")
    return max(judgements, key=lambda judged: judged.may_serve)


def _compare(evaluation: Evaluation, serving: AdapterVersion) -> Judgement | None:
    verdict = _verdict(evaluation, serving)
    if verdict is None:
        return None
    challenger = evaluation.version
    if verdict.outcome != Outcome.BETTER:
        return Judgement(False, f"{challenger} does not beat the serving {serving}; {verdict}.", evaluation)
    known = _verdict(evaluation, serving, labels=frozenset(serving.card["labels"]))
    if known is not None and known.outcome == Outcome.WORSE:
        words = f"{challenger} is worse than the serving {serving} on the classes that both know; {known}."
        return Judgement(False, words, evaluation)
    return Judgement(True, f"{challenger} beats the serving {serving}; {verdict}.", evaluation)


def _compare_answers(evaluation: Evaluation, serving: Stack) -> Judgement | None:
    """The same router with other experts: what counts is which samples are answered right, end to end."""
    challenger = answered_right(evaluation)
    for row in Evaluation.objects.filter(stack=serving, dataset_digest=evaluation.dataset_digest):
        with contextlib.suppress(ValueError):
            verdict = compare(answered_right(row), challenger)
            words = f"{evaluation.version} with other experts, by right answers: {verdict}."
            return Judgement(verdict.outcome == Outcome.BETTER, words, evaluation)
    return None


def _figure(evaluation: Evaluation) -> str:
    return f"{evaluation.accuracy:.1%} of {evaluation.samples} samples on {evaluation.dataset_name}"


def _verdict(challenger: Evaluation, champion: AdapterVersion, labels: frozenset[str] | None = None) -> Verdict | None:
    """How `challenger` did against the champion's newest evaluation on the same samples; None if there is none.

    `labels` leaves only the samples of these classes.
    """
    for evaluation in Evaluation.objects.filter(version=champion, dataset_digest=challenger.dataset_digest):
        with contextlib.suppress(ValueError):  # other samples of the same dataset
            return compare(routed_right(evaluation, labels), routed_right(challenger, labels))
    return None


def routed_right(evaluation: Evaluation, labels: frozenset[str] | None = None) -> dict[str, bool]:
    """Which samples (by id) were routed right; `labels` leaves only those of these classes."""
    return {
        sample["id"]: sample["correct"]
        for sample in evaluation.report["samples"]
        if labels is None or sample["label"] in labels
    }


def answered_right(evaluation: Evaluation) -> dict[str, bool]:
    """Which samples (by id) the stack answered exactly, of those whose answer is known."""
    samples = evaluation.report["samples"]
    return {sample["id"]: sample["end_to_end"]["exact"] for sample in samples if "end_to_end" in sample}
