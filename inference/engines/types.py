"""What goes into an engine and what comes out of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.stack_spec import AdapterRef, StackSpec

__all__ = [
    "AdapterRef",
    "Decision",
    "Receipt",
    "Request",
    "StackSpec",
    "StackedResult",
    "StreamEvent",
    "TextDelta",
    "Used",
]


@dataclass(frozen=True)
class Request:
    """One screenshot (encoded PNG, JPEG or WEBP) and the user's words, for the stack with digest `stack`.

    Clients take turns: `client` is any text by which the engine tells them apart. `waited_s` seconds of the request's
    deadline passed before the engine was asked.
    """

    stack: str
    image: bytes
    prompt: str
    max_tokens: int = 128
    client: str = ""
    waited_s: float = 0.0


def content_digest(data: bytes) -> str:
    """`sha256:…`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Used:
    """An adapter version as it was used: within this prompt template (a digest) and pixel budget.

    `proven` says whether it had answered the canaries of its training as it did then.
    """

    name: str
    digest: str
    template: str
    min_pixels: int
    max_pixels: int
    proven: bool


@dataclass(frozen=True)
class Receipt:
    """What an answer was given with: enough to ask for it again.

    `stack`, `base`, `image` and `answer` are digests; `answer`, that of the text, is None for a decision alone. Of an
    adapter that was asked by itself `stack` is its model's name, and `router` and `label` are None.
    """

    stack: str
    base: str
    dtype: str
    device: str
    router: Used | None
    labels: tuple[str, ...]
    label: str | None
    expert: Used | None
    image: str
    prompt: str
    max_tokens: int
    packages: dict[str, str]
    answer: str | None = None

    def answered(self, text: str) -> Receipt:
        """The receipt of the decision and the answer `text`."""
        return replace(self, answer=content_digest(text.encode()))


@dataclass(frozen=True)
class Decision:
    """Which expert the router names, and how sure it is.

    `probabilities` holds every label that the router knows and sums to 1. `adapter` is None where the router
    answers its `none` label: no expert is meant for this screen. `stack` is the digest of the stack that was asked;
    `timings` are milliseconds per stage; `receipt` is None where an engine writes none.
    """

    label: str
    adapter: AdapterRef | None
    probabilities: dict[str, float]
    router: AdapterRef
    stack: str
    timings: dict[str, float] = field(default_factory=dict)
    receipt: Receipt | None = None


@dataclass(frozen=True)
class StackedResult:
    """A decision and the expert's answer; `tool_call` is its parsed `<tool_call>`, None without one."""

    decision: Decision
    text: str
    tool_call: dict[str, Any] | None
    tokens: int
    finish_reason: str  # "stop", "length", "deadline" where time was up, or "none" where no expert was meant
    timings: dict[str, float]
    receipt: Receipt | None = None


@dataclass(frozen=True)
class TextDelta:
    """The answer's next characters, never a part of one."""

    text: str


StreamEvent = Decision | TextDelta | StackedResult
"""A streamed answer: the decision, then text as it comes, last the whole result."""
