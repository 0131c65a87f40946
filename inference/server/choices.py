"""A choice as an OpenAI server shows it: token by token, with what else might have been said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from inference.engines.chat import Token

IMPOSSIBLE = -9999.0  # as vLLM writes it: JSON has no infinity


def logprobs(
    probabilities: Mapping[str, float], spelled: Mapping[str, Sequence[Token]], chosen: str, top: int
) -> list[dict[str, Any]]:
    """The `logprobs.content` of the choice `chosen`: its tokens, the end token last, each with the `top` likeliest.

    A token's probability is conditional on the tokens before it and on one of the choices being the whole answer, so
    that along each choice they multiply to its probability.
    """
    content = []
    going = list(probabilities)
    for depth, token in enumerate(spelled[chosen]):
        shares: dict[Token, float] = {}
        for choice in going:
            following = spelled[choice][depth]
            shares[following] = shares.get(following, 0.0) + probabilities[choice]
        total = math.fsum(shares.values())
        ranked = sorted(shares, key=lambda one: -shares[one])[:top]
        entry = _entry(token, shares[token] / total)
        content.append(entry | {"top_logprobs": [_entry(one, shares[one] / total) for one in ranked]})
        going = [choice for choice in going if spelled[choice][depth] == token]
    return content


def _entry(token: Token, probability: float) -> dict[str, Any]:
    logprob = math.log(probability) if probability > 0 else IMPOSSIBLE
    return {"token": token.text, "logprob": logprob, "bytes": list(token.text.encode())}
