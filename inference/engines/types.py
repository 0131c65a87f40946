"""What goes into an engine and what comes out of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class AdapterRef:
    """One immutable adapter version: its name is for people, its digest (`sha256:…`) is what is loaded."""

    name: str
    digest: str


@dataclass(frozen=True)
class StackSpec:
    """One router version and the expert versions it may name, deployed together.

    `base` is the fingerprint of the base model that all of them were trained on.
    """

    base: str
    router: AdapterRef
    experts: tuple[AdapterRef, ...]

    @property
    def digest(self) -> str:
        """Content hash of the whole stack, the key of everything cached for it."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StackSpec:
        """Inverse of `dataclasses.asdict`."""
        return cls(
            base=data["base"],
            router=AdapterRef(**data["router"]),
            experts=tuple(AdapterRef(**expert) for expert in data["experts"]),
        )


@dataclass(frozen=True)
class Request:
    """One screenshot (an encoded PNG, JPEG or WEBP) and the user's words, for the stack with digest `stack`."""

    stack: str
    image: bytes
    prompt: str
    max_tokens: int = 128


@dataclass(frozen=True)
class Decision:
    """Which expert the router names, and how sure it is.

    `probabilities` holds every label that the router knows and sums to 1. `adapter` is None where the router
    answers its `none` label: no expert is meant for this screen. `timings` are milliseconds per stage.
    """

    label: str
    adapter: AdapterRef | None
    probabilities: dict[str, float]
    router: AdapterRef
    timings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StackedResult:
    """A decision and the chosen expert's answer; `tool_call` is its parsed `<tool_call>`, None if it has none."""

    decision: Decision
    text: str
    tool_call: dict[str, Any] | None
    tokens: int
    finish_reason: str  # "stop", "length", or "none" where no expert was meant
    timings: dict[str, float]
