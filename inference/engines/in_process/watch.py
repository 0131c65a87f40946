"""Whether the model's thread gets on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from inference.engines.work import TOKENS_A_REQUEST


class Watch:
    """Of one thread's steps: each may take `patience_s`, one that reads a long prompt longer in proportion."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._due: float | None = None  # of time.monotonic(), while a step runs

    @contextmanager
    def step(self, tokens: int = 0) -> Iterator[None]:
        """A step that reads so many tokens of prompts."""
        self._due = time.monotonic() + self._patience_s * max(1.0, tokens / TOKENS_A_REQUEST)
        try:
            yield
        finally:
            self._due = None

    @property
    def is_stalled(self) -> bool:
        """Whether the step that runs should have ended."""
        due = self._due
        return due is not None and time.monotonic() > due
