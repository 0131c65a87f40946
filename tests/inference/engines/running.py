"""An engine of its own, and what it must answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from inference.engines.in_process import InProcessEngine, Limits
from inference.engines.types import Request
from tests.inference.engines.truth import Truth


@contextmanager
def running(world: Any, failed: Callable[[], object] | None = None, **limits: Any) -> Iterator[InProcessEngine]:
    """An engine with the world's stack."""
    made = InProcessEngine.load(world.base, world.store.path, Limits(**limits), failed)
    try:
        made.deploy(world.stack)
        yield made
    finally:
        made.close()


def expected(world: Any, truth: Truth, request: Request) -> tuple[str, str]:
    """The label and the text that a fresh base with the one adapter gives."""
    return truth.stacked(world.stack, request, world.by_digest)


def eventually(true: Callable[[], object]) -> None:
    """Wait until it is so, 20 s at most."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)
