"""The kinds of screen this package can draw. A new kind is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import calendar, claim_window, other, provider_select
from .example import Example
from .screen import Screen


@dataclass(frozen=True)
class Kind:
    """How one kind is drawn, and the system prompt that all its rows share."""

    system: str
    draw: Callable[[Screen], Example]


KINDS: dict[str, Kind] = {
    "calendar": Kind(calendar.SYSTEM, calendar.draw),
    "claim-window": Kind(claim_window.SYSTEM, claim_window.draw),
    "provider-select": Kind(provider_select.SYSTEM, provider_select.draw),
    "other": Kind(other.SYSTEM, other.draw),
}
