"""From one champion to the next, and back."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.models import Evaluation, Promotion, Stack
from adapters.selectors import baseline_of
from datasets_app.errors import InputError


@dataclass(frozen=True)
class Switch:
    """`stack` is to serve in the place of `previous`, on the figure of `evaluation`."""

    stack: Stack
    previous: Stack | None
    evaluation: Evaluation | None = None
    is_rollback: bool = False


def way_back(serving: Stack) -> Switch:
    """From `serving`, which serves, to the very stack that served before; InputError if there was none."""
    made = _trail()
    if not made or made[-1].stack_id != serving.pk or made[-1].previous is None:
        raise InputError(f"No stack served before {serving}: there is nothing to go back to.")
    before = made[-1].previous
    return Switch(before, serving, baseline_of(before), is_rollback=True)


def _trail() -> list[Promotion]:
    """The promotions that led to what serves, oldest first: a rollback takes the one away that it undid."""
    trail: list[Promotion] = []
    for promotion in Promotion.objects.select_related("previous__router__adapter").order_by("id"):
        if not promotion.is_rollback:
            trail.append(promotion)
        elif trail and trail[-1].stack_id == promotion.previous_id:
            trail.pop()
    return trail
