"""How likely each label is, from answers that are limited to labels and told token by token.

A server that limits an answer to a choice says of each token how likely it was, and what else might have stood in its
place: so much of the probability went to the labels that go on that way. Labels that share such a way are told apart
by asking again for those alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from inference.engines.base import EngineError

NEGLIGIBLE = 1e-4
"""Probability that is shared out evenly rather than asked about."""

NOTHING = 1e-300
"""Shares up to this count as none: further parts of them may be 0."""


@dataclass(frozen=True)
class Step:
    """A token of the answer, and the probability of each text that might have stood there, its own included."""

    token: str
    chances: dict[str, float]


Ask = Callable[[list[str]], Sequence[Step]]
"""An answer limited to these labels."""

Part = tuple[tuple[str, ...], float]
"""Labels that go on alike, and the share of the probability that goes to them."""


def label_probabilities(labels: Sequence[str], ask: Ask) -> dict[str, float]:
    """The labels' probabilities, which sum to 1.

    EngineError if an answer is no label, or is one that the server gives no probability.
    """
    totals = dict.fromkeys(labels, 0.0)
    answers: dict[tuple[str, ...], list[Part]] = {}
    groups: list[Part] = [(tuple(labels), 1.0)]
    while groups:
        group, mass = groups.pop()
        if len(group) == 1 or mass <= NEGLIGIBLE:
            for label in group:
                totals[label] += mass / len(group)
            continue
        if group not in answers:
            answers[group] = _smaller(group, _parts(group, ask(list(group))))
        groups += [(part, mass * share) for part, share in answers[group]]
    total = math.fsum(totals.values())
    return {label: value / total for label, value in totals.items()}


def _smaller(group: tuple[str, ...], parts: Iterable[Part]) -> list[Part]:
    """The parts but for the group itself, about which the same answer would come again: what is left stands for it."""
    told = [(part, share) for part, share in parts if share > NOTHING]
    smaller = [(part, share) for part, share in told if part != group]
    if not smaller:
        raise EngineError("The engine's server gives its own answer no probability: it must tell those of its choice.")
    same = math.fsum(share for part, share in told if part == group)
    known = max(1.0 - same, math.fsum(share for _, share in smaller))
    return [(part, share / known) for part, share in smaller]


def _parts(group: tuple[str, ...], steps: Sequence[Step]) -> Iterator[Part]:
    """Into which labels the answer divides the group, and how the probability goes to them."""
    said, left = "", 1.0
    for step in steps:
        ways = {text: _along(group, said, text) for text, chance in step.chances.items() if chance > 0}
        for text, part in ways.items():
            if part and text != step.token:
                yield part, left * step.chances[text]
        seen = {label for part in ways.values() for label in part}
        unseen = tuple(label for label in group if label.startswith(said) and label not in seen)
        rest = 1.0 - math.fsum(step.chances.values())
        if unseen and rest > 0:  # The server tells of the likeliest only.
            yield unseen, left * rest
        left *= step.chances[step.token]
        if _along(group, said, step.token) == (said,):
            break
        said += step.token
    if said not in group:
        raise EngineError("The engine's answer is no label: its server must know 'structured_outputs'.")
    yield (said,), left


def _along(group: tuple[str, ...], said: str, token: str) -> tuple[str, ...]:
    """The labels that go on with `token`; where none does it is the end token, of the label that has been said."""
    onward = tuple(label for label in group if token and label.startswith(said + token))
    return onward or ((said,) if said in group else ())
