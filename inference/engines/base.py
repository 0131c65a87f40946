"""The seam behind which requests are answered."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Protocol

from inference.engines.types import Decision, Request, StackedResult, StackSpec, StreamEvent


class EngineError(Exception):
    """The engine cannot answer; the message is one sentence for the operator."""


class StackNotDeployed(EngineError):  # noqa: N818
    """The request names a stack that this engine does not hold: deploy it and ask again."""


class LoadError(EngineError):
    """An adapter cannot be loaded; the message is for the staff, as it may say more than a client should know."""


class EngineBusy(EngineError):  # noqa: N818
    """The queue is full, or the request waited too long in it: ask again, after `retry_after` seconds if it says so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def retry_after(seconds: float = 2.0) -> str:
    """Whole seconds for a `Retry-After`, up to thrice as many, so that clients refused together come back apart."""
    return str(math.ceil(random.uniform(seconds, 3 * seconds)))


class Engine(Protocol):
    """Answers requests with a router and its experts on one base. Safe to call from any thread."""

    def deploy(self, stack: StackSpec) -> None:
        """Load every adapter of the stack, by hash, so that requests may name it; idempotent.

        Raises `datasets_app.errors.InputError` if an adapter is broken or belongs to another base.
        """

    def route(self, request: Request) -> Decision:
        """Decide which expert should answer."""

    def infer(self, request: Request) -> StackedResult:
        """Route, then generate with the chosen expert (greedy)."""

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """`infer` as it happens: the decision, text deltas (if any) that add up to the text, the result.

        Whoever closes the iterator, a generator, ends the request.
        """

    def status(self) -> dict[str, object]:
        """The base's fingerprint, device, dtype and what is deployed."""

    def close(self) -> None:
        """Free what the engine holds."""
