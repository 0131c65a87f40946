"""Stacked inference with the stack that serves, and the change of which one does."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TypeVar

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.utils.module_loading import import_string

from adapters.models import AdapterVersion, Evaluation, Promotion, Stack
from adapters.promotion.comparing import compare_stacks
from adapters.promotion.criteria import PromotionCriteria, check_drop, promotion_criteria
from adapters.selectors import champion, spec_of
from adapters.services import build_stack, switch_champion
from adapters.switch import Switch, way_back
from datasets_app.errors import InputError
from inference.admission import Place, get_admission
from inference.engines.base import Engine, EngineBusy, EngineError, LoadError, StackNotDeployed
from inference.engines.streams import Begun
from inference.engines.types import Decision, Request, StackedResult
from inference.engines.work import places

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer", Decision, StackedResult, Begun)


@functools.cache
def get_engine() -> Engine:
    """The engine of `settings.ENGINE`, one a process."""
    engine: Engine = import_string(settings.ENGINE["BACKEND"])(**settings.ENGINE["OPTIONS"])
    return engine


def route(place: Place, image: bytes, prompt: str) -> Decision:
    """Which expert the champion's router names for the screenshot and the prompt."""
    return _ask(get_engine().route, place, image, prompt)


def infer(place: Place, image: bytes, prompt: str, max_tokens: int = 128) -> StackedResult:
    """Route with the champion, then answer with the expert it names."""
    return _ask(get_engine().infer, place, image, prompt, max_tokens)


def stream(place: Place, image: bytes, prompt: str, max_tokens: int = 128) -> Begun:
    """`infer` as it happens; returns when the decision is there. Whoever closes the stream ends the request."""
    return _ask(lambda asked: Begun(get_engine().stream(asked)), place, image, prompt, max_tokens)


def _serving() -> Stack:
    stack = champion()
    if stack is None:
        raise EngineError("No router is live yet: promote one.")
    return stack


def _ask(method: Callable[[Request], Answer], place: Place, image: bytes, prompt: str, max_tokens: int = 128) -> Answer:
    """Ask of the stack that serves, in as many places as the image takes."""
    place.widen(places(image))
    stack = _serving()
    request = Request(stack.digest, image, prompt, max_tokens, place.client)
    if not connection.in_atomic_block:  # An answer takes long, and a database lets only so many in.
        connection.close_if_unusable_or_obsolete()
    try:
        return method(replace(request, waited_s=place.waited_s))
    except EngineBusy:
        get_admission().hold()
        raise
    except StackNotDeployed:  # an engine that has just started
        try:
            get_engine().deploy(spec_of(stack))
        except (InputError, LoadError) as error:  # no fault of whoever asks
            logger.error("%s cannot be loaded: %s", stack, error)
            raise EngineError("The stack that serves cannot be loaded; the log says why.") from error
        return method(replace(request, waited_s=place.waited_s))


def promote(
    version: AdapterVersion,
    *,
    drop: Collection[str] = (),
    force_reason: str | None = None,
    user: User | None = None,
) -> Stack:
    """Put the router `version`, with the current experts, live; the old stack serves until the moment of the switch.

    InputError unless `compare_stacks` approves of it. `drop` names the champion's classes that may be lost;
    `force_reason`, which is recorded, leaves the comparison out, never the loading.
    """
    stack, serving = build_stack(version), champion()
    if force_reason is None:
        decision = compare_stacks(stack, serving, _criteria(drop, stack, serving))
        if not decision.approved:
            raise InputError(decision.reason)
        evaluation, reason = decision.evaluation, decision.reason
    else:
        evaluation, reason = Evaluation.objects.filter(version=version).first(), _forced(force_reason)
    get_engine().deploy(spec_of(stack))
    if serving is None or serving.pk != stack.pk:
        switch_champion(Switch(stack, serving, evaluation), reason=reason, user=user)
    return stack


def _criteria(drop: Collection[str], stack: Stack, serving: Stack | None) -> PromotionCriteria:
    if serving is None or serving.pk != stack.pk:
        check_drop(drop, serving, stack.router.card["labels"])
    return promotion_criteria(drop=drop)


def _forced(reason: str) -> str:
    if not reason.strip():
        raise InputError("force_reason: say why, the words are recorded with the promotion.")
    return f"Forced: {reason.strip()}"


def roll_back(stack: Stack | None = None, *, reason: str, user: User | None = None) -> Stack:
    """Put the very stack live again that served before `stack`, by default before the one that serves.

    Done twice, it goes one step back: a stack that was rolled back already stays so, and what serves since a rollback
    is only taken away by name. InputError if `stack` does not serve, or nothing served before.
    """
    serving, newest = champion(), Promotion.objects.first()
    if serving is None:
        raise InputError("No router is live yet: there is nothing to roll back.")
    undone = newest.previous_id if newest and newest.is_rollback else None
    if stack is None and undone is not None:
        raise InputError(f"{serving} serves since a rollback; to go back further, name its stack: {serving.digest}")
    if stack is not None and stack.pk != serving.pk:
        if stack.pk == undone:
            return serving
        raise InputError(f"{stack} does not serve: {serving} does.")
    switch = way_back(serving)
    get_engine().deploy(spec_of(switch.stack))
    switch_champion(switch, reason=reason, user=user)
    return switch.stack


def engine_status() -> dict[str, object]:
    """What the engine says of itself."""
    return get_engine().status()
