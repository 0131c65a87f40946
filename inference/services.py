"""Stacked inference with the stack that serves, and the change of which one does."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.utils.module_loading import import_string

from adapters.models import AdapterVersion, Alias, Evaluation, Stack
from adapters.selectors import champion, spec_of
from adapters.services import build_stack, move_alias
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
        get_engine().deploy(spec_of(stack))
        return method(request)


def promote(version: AdapterVersion, *, force: bool = False) -> Stack:
    """Put the router `version`, with the current experts, live; the old stack serves until the moment of the switch.

    Refused with an InputError unless the version was evaluated and, where another router serves, beats that one on
    the same samples (see `inference.routing.verdict`); `force` leaves the comparison out, never the loading.
    """
    stack = build_stack(version)
    if not force:
        _check_evidence(version, champion())
    get_engine().deploy(spec_of(stack))
    move_alias(Alias.Name.CHAMPION, stack)
    return stack


def _check_evidence(version: AdapterVersion, serving: Stack | None) -> None:
    evaluations = list(Evaluation.objects.filter(version=version))
    if not evaluations:
        raise InputError(f"{version} was never evaluated: evaluate it before it goes live.")
    if serving is None or serving.router_id == version.pk:
        return
    verdicts = [verdict for evaluation in evaluations if (verdict := _verdict(evaluation, serving.router))]
    if not verdicts:
        raise InputError(
            f"{version} and the serving {serving.router} were never evaluated on the same samples: "
            "evaluate both on one dataset."
        )
    if not any(verdict.outcome == Outcome.BETTER for verdict in verdicts):
        raise InputError(f"{version} does not beat the serving {serving.router}; {verdicts[0]}.")


def _verdict(challenger: Evaluation, champion: AdapterVersion) -> Verdict | None:
    """How `challenger` did against the champion's newest evaluation on the same samples; None if there is none."""
    for evaluation in Evaluation.objects.filter(version=champion, dataset_digest=challenger.dataset_digest):
        with contextlib.suppress(ValueError):  # other samples of the same dataset
            return compare(_routed_right(evaluation), _routed_right(challenger))
    return None


def _routed_right(evaluation: Evaluation) -> dict[str, bool]:
    return {sample["id"]: sample["correct"] for sample in evaluation.report["samples"]}


def engine_status() -> dict[str, object]:
    """What the engine says of itself."""
    return get_engine().status()
