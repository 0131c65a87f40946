"""What an engine may hold, and how long a request may take."""

from __future__ import annotations

import os
from dataclasses import dataclass

from datasets_app.errors import InputError
from inference.engines.base import EngineBusy

VARIABLE = "SWITCHYARD_ENGINE_{}"
RANGES = {
    "batch": (1, 256),
    "queue": (1, 4096),
    "deadline": (1, 150),
    "stall": (1, 3600),
    "stacks": (1, 1024),
    "adapters": (1, 1024),
}
"""Of the settings; a longer deadline than the callers' patience (`RemoteEngine`, `ModalEngine`) would be none."""

GPU_BATCH = 32  # a GPU takes hardly longer for a step of more rows


@dataclass(frozen=True)
class Limits:
    """Of one engine in this process."""

    queue: int = 64  # places for requests that wait or are prepared; a request takes one or more (`work.places`)
    deadline_s: float = 60.0  # from a request's arrival to its end
    stall_s: float = 30.0  # without a step's end, after which the model's thread counts as stalled
    batch: int = 8  # requests answered at once
    joining: int = 4  # requests that join at once while others are being answered
    steps: int = 2  # tokens that those others get before more join
    stacks: int = 8  # deployed at once; the one used longest ago goes first
    adapters: int = 24  # kept loaded, in all; those that are needed may exceed it

    @property
    def late(self) -> EngineBusy:
        """What becomes of a request that has waited until its deadline."""
        return EngineBusy(f"The request waited {self.deadline_s:g} s in the engine's queue.")

    @classmethod
    def from_env(cls, on_gpu: bool) -> Limits:
        """The defaults, and what `SWITCHYARD_ENGINE_BATCH`, `…_QUEUE`, `…_DEADLINE` and `…_STALL` (in seconds),
        `…_STACKS` and `…_ADAPTERS` say instead. InputError naming the one that is wrong.
        """
        given = {name: _whole(name, text) for name, text in _given().items()}
        more = {f"{name}_s": float(given.pop(name)) for name in ("deadline", "stall") if name in given}
        return cls(**({"batch": GPU_BATCH} if on_gpu else {}) | given | more)  # type: ignore[arg-type]


def limits_env() -> dict[str, str]:
    """The variables that this environment sets, checked, for an engine elsewhere."""
    Limits.from_env(on_gpu=False)
    return {VARIABLE.format(name.upper()): text for name, text in _given().items()}


def _given() -> dict[str, str]:
    found = {name: os.environ.get(VARIABLE.format(name.upper()), "") for name in RANGES}
    return {name: text for name, text in found.items() if text}


def _whole(name: str, text: str) -> int:
    least, most = RANGES[name]
    if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    raise InputError(f"{VARIABLE.format(name.upper())} is {text[:40]!r}: give a whole number from {least} to {most}.")
