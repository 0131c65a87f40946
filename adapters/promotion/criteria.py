"""What a challenger has to show."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.conf import settings

from adapters.models import Stack
from datasets_app.errors import InputError


@dataclass(frozen=True)
class PromotionCriteria:
    """`margin`: no class that both know may fall by so much, a share. `floor`: the recall that a new class must exceed.
    `drop`: the champion's classes whose removal was asked for by name."""

    margin: float
    floor: float
    drop: frozenset[str] = frozenset()


def promotion_criteria(
    margin: float | None = None, floor: float | None = None, drop: Collection[str] = ()
) -> PromotionCriteria:
    """The criteria that are given, the installation's for the others; InputError names the one that is wrong."""
    criteria = PromotionCriteria(
        settings.PROMOTION_MARGIN if margin is None else margin,
        settings.PROMOTION_FLOOR if floor is None else floor,
        frozenset(drop),
    )
    for name in ("margin", "floor"):
        value = getattr(criteria, name)
        if not 0 < value < 1:
            raise InputError(f"{name}: {value:g} is no share between 0 and 1, as 0.05 is for 5 points.")
    return criteria


def check_drop(drop: Collection[str], champion: Stack | None, labels: Collection[str]) -> None:
    """InputError unless `champion` serves every class that is to be dropped, and the new router's `labels` have none
    of them."""
    served = champion.router.card["labels"] if champion else []
    for name in drop:
        if name not in served:
            raise InputError(f"drop: {name!r} is no class that serves; there are: {', '.join(served) or 'none yet'}.")
        if name in labels:
            raise InputError(f"drop: the new router knows {name!r}: leave the name out, or train one without it.")
