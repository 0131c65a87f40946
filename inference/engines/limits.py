"""What an engine may hold, and how long a request may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one engine in this process."""

    queue: int = 64  # requests waiting, or being prepared for it
    deadline_s: float = 60.0  # from a request's arrival to its end
    batch: int = 8  # requests answered at once
    joining: int = 4  # requests that join at once while others are being answered
    steps: int = 2  # tokens that those others get before more join
    stacks: int = 8  # deployed at once; the one used longest ago goes first
    adapters: int = 24  # loaded at once, beyond those that are needed
