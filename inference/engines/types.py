"""What goes into an engine and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from adapters.stack_spec import AdapterRef, StackSpec

__all__ = ["AdapterRef", "Decision", "Request", "StackSpec", "StackedResult", "StreamEvent", "TextDelta"]


@dataclass(frozen=True)
class Request:
    """One screenshot (encoded PNG, JPEG or WEBP) and the user's words, for the stack with digest `stack`."""

    stack: str
    image: bytes
    prompt: str
    max_tokens: int = 128


@dataclass(frozen=True)
class Decision:
    """Which expert the router names, and how sure it is.

    `probabilities` holds every label that the router knows and sums to 1. `adapter` is None where the router
    answers its `none` label: no expert is meant for this screen. `stack` is the digest of the stack that was asked;
    `timings` are milliseconds per stage.
    """

    label: str
    adapter: AdapterRef | None
    probabilities: dict[str, float]
    router: AdapterRef
    stack: str
    timings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StackedResult:
    """A decision and the expert's answer; `tool_call` is its parsed `<tool_call>`, None without one."""

    decision: Decision
    text: str
    tool_call: dict[str, Any] | None
    tokens: int
    finish_reason: str  # "stop", "length", or "none" where no expert was meant
    timings: dict[str, float]


@dataclass(frozen=True)
class TextDelta:
    """The answer's next characters, never a part of one."""

    text: str


StreamEvent = Decision | TextDelta | StackedResult
"""A streamed answer: the decision, then text as it comes, last the whole result."""
