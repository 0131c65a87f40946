"""Proof of adapter over OpenAI's protocol: before one may serve, it is asked what it was asked when it was trained.

A server tells the log-probabilities of the likeliest next tokens. Where adapter, prompt template, pixels and arithmetic
are those of the training, they differ from the recorded logits by one and the same number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from adapters.canaries import Canaries, Canary
from adapters.card import AdapterCard
from datasets_app.errors import InputError
from inference.engines.canaries import NO_OP, TOLERANCE, WORDS, check_distance, screens

NOISE = 1e-6
"""Of the largest log-probability: what float32 rounds away."""

Ask = Callable[[bytes, str], dict[int, float]]
"""The likeliest tokens behind a screenshot (PNG) and the user's words, with their log-probabilities."""


def prove(card: AdapterCard, canaries: Canaries | None, adapter: Ask, base: Ask) -> None:
    """Ask both what the training asked, or else our own canaries; InputError saying why `adapter` may not serve."""
    known = canaries.canaries if canaries else ()
    questions = [(canary.png, canary.words) for canary in known] or [(png, WORDS) for png in screens()]
    told = [adapter(*question) for question in questions]
    if not all(map(math.isfinite, (chance for answer in told for chance in answer.values()))):
        raise InputError("The adapter gives no numbers: its weights are broken.")
    if all(_equal(answer, base(*question)) for answer, question in zip(told, questions, strict=True)):
        raise InputError(NO_OP)
    tolerance = TOLERANCE[card.dtype or "bfloat16"][1]  # The server does not say what it computes on, and in.
    for canary, answer in zip(known, told, strict=False):
        check_distance(_distance(canary, answer), max(map(abs, canary.logits)), tolerance)


def _equal(one: dict[int, float], other: dict[int, float]) -> bool:
    """Whether tokens that both name are as likely in both; of the least likely ones either may name another."""
    both = one.keys() & other.keys()
    noise = NOISE * max(map(abs, other.values()))
    return bool(both) and all(abs(one[token] - other[token]) <= noise for token in both)


def _distance(canary: Canary, told: dict[int, float]) -> float:
    """How far the recorded logits, moved alike, lie from what is told; a token not told is no likelier than those."""
    recorded = dict(zip(canary.tokens, canary.logits, strict=True))
    moves = [told[token] - logit for token, logit in recorded.items() if token in told]
    if not moves:
        return math.inf
    move, least = (max(moves) + min(moves)) / 2, min(told.values())
    hidden = [logit + move - least for token, logit in recorded.items() if token not in told]
    return max((max(moves) - min(moves)) / 2, *hidden, 0.0)
