"""Stacked inference with the stack that serves, and the change of which one does."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from django.conf import settings
from django.utils.module_loading import import_string

from adapters.models import AdapterVersion, Evaluation, Stack
from adapters.selectors import baseline_of, champion, promotion_of, spec_of
from adapters.services import build_stack, switch_champion
from datasets_app.errors import InputError
from inference.engines.base import Engine, EngineError, StackNotDeployed
from inference.engines.streams import Begun
from inference.engines.types import Decision, Request, StackedResult
from inference.routing.verdict import Outcome, Verdict, compare

Answer = TypeVar("Answer", Decision, StackedResult, Begun)


@functools.cache
def get_engine() -> Engine:
    """The engine of `settings.ENGINE`, one a process."""
    engine: Engine = import_string(settings.ENGINE["BACKEND"])(**settings.ENGINE["OPTIONS"])
    return engine


def route(image: bytes, prompt: str) -> Decision:
    """Which expert the champion's router names for the screenshot and the prompt."""
    stack = _serving()
    return _ask(get_engine().route, Request(stack.digest, image, prompt), stack)


def infer(image: bytes, prompt: str, max_tokens: int = 128) -> StackedResult:
    """Route with the champion, then answer with the expert it names."""
    stack = _serving()
    return _ask(get_engine().infer, Request(stack.digest, image, prompt, max_tokens), stack)


def stream(image: bytes, prompt: str, max_tokens: int = 128) -> Begun:
    """`infer` as it happens; returns when the decision is there. Whoever closes the stream ends the request."""
    stack = _serving()
    request = Request(stack.digest, image, prompt, max_tokens)
    return _ask(lambda asked: Begun(get_engine().stream(asked)), request, stack)


def _serving() -> Stack:
    stack = champion()
    if stack is None:
        raise EngineError("No router is live yet: promote one.")
    return stack


def _ask(method: Callable[[Request], Answer], request: Request, stack: Stack) -> Answer:
    try:
        return method(request)
    except StackNotDeployed:  # an engine that has just started
        try:
            get_engine().deploy(spec_of(stack))
        except InputError as error:  # no fault of whoever asks
            raise EngineError(f"The stack that serves cannot be loaded: {error}") from error
        return method(request)


@dataclass(frozen=True)
class Judgement:
    """Whether a router may take the place of the one that serves, why (one sentence), and on which evaluation."""

    may_serve: bool
    words: str
    evaluation: Evaluation | None = None


def promote(version: AdapterVersion, *, force: bool = False, reason: str = "") -> Stack:
    """Put the router `version`, with the current experts, live; the old stack serves until the moment of the switch.

    Refused with an InputError unless the version was evaluated and, where another router serves, beats that one on
    the same samples (see `judge`); `force` leaves the comparison out, never the loading.
    """
    stack, serving = build_stack(version), champion()
    evaluation = Evaluation.objects.filter(version=version).first()
    if not force:
        judgement = judge(version, serving)
        if not judgement.may_serve:
            raise InputError(judgement.words)
        evaluation, reason = judgement.evaluation, reason or judgement.words
    get_engine().deploy(spec_of(stack))
    if serving is None or serving.pk != stack.pk:
        switch_champion(stack, previous=serving, evaluation=evaluation, reason=reason or "Forced.")
    return stack


def roll_back(serving: Stack, *, reason: str) -> Stack:
    """Put the stack live that served before `serving`; InputError if there was none, or `serving` serves no more."""
    made = promotion_of(serving)
    if made is None or made.previous is None:
        raise InputError(f"No stack served before {serving}: there is nothing to go back to.")
    before = made.previous
    get_engine().deploy(spec_of(before))
    evaluation = baseline_of(before)
    switch_champion(before, previous=serving, evaluation=evaluation, reason=reason, is_rollback=True)
    return before


def judge(version: AdapterVersion, serving: Stack | None, evaluation: Evaluation | None = None) -> Judgement:
    """Whether the router `version` may serve, by `evaluation` or any of its evaluations.

    Where another router serves, the exact McNemar test on the same samples must say that it is better. A class that
    the serving router does not know counts as its mistake; so that a new class cannot hide a loss elsewhere, the
    challenger must not be worse on the classes that both know.
    """
    evaluations = [evaluation] if evaluation else list(Evaluation.objects.filter(version=version))
    if not evaluations:
        return Judgement(False, f"{version} was never evaluated: evaluate it before it goes live.")
    if serving is None:
        return Judgement(True, f"{version} is the first to serve: {_figure(evaluations[0])}.", evaluations[0])
    if serving.router_id == version.pk:
        if evaluation is not None and evaluation.stack_id not in (None, serving.pk):
            return _compare_answers(evaluation, serving)
        return Judgement(True, f"{version} serves already.", evaluations[0])
    judgements = [judged for row in evaluations if (judged := _compare(row, serving.router))]
    if not judgements:
        words = f"{version} and the serving {serving.router} were never evaluated on the same samples: "
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


def _compare_answers(evaluation: Evaluation, serving: Stack) -> Judgement:
    """The same router with other experts: what counts is which samples are answered right, end to end."""
    challenger = answered_right(evaluation)
    for row in Evaluation.objects.filter(stack=serving, dataset_digest=evaluation.dataset_digest):
        with contextlib.suppress(ValueError):
            verdict = compare(answered_right(row), challenger)
            words = f"{evaluation.version} with other experts, by right answers: {verdict}."
            return Judgement(verdict.outcome == Outcome.BETTER, words, evaluation)
    return Judgement(False, f"{evaluation.version} with other experts was never compared with {serving}.", evaluation)


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


def engine_status() -> dict[str, object]:
    """What the engine says of itself."""
    return get_engine().status()
