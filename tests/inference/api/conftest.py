"""Callers, and an engine that answers without a model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from adapters.models import Stack
from inference.admission import get_admission
from inference.engines.types import (
    AdapterRef,
    Decision,
    Receipt,
    Request,
    StackedResult,
    StackSpec,
    StreamEvent,
    TextDelta,
    Used,
)
from inference.services import get_engine
from tests.cast import make_champion, make_client

RECEIPT = Receipt(
    stack="sha256:stack",
    base="sha256:base",
    dtype="float32",
    device="cpu",
    router=Used("router", "sha256:router", "sha256:template", 1024, 4096, True),
    labels=("calendar", "claim-window"),
    label="calendar",
    expert=Used("calendar", "sha256:expert", "sha256:template", 1024, 4096, False),
    image="sha256:image",
    prompt="Open May 4.",
    max_tokens=64,
    packages={"torch": "2"},
)


class ScriptedEngine:
    """Answers `calendar`; raises what `failure` holds."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.breaks: Exception | None = None
        self.closed_streams = 0
        self.requests: list[Request] = []
        self.stacks: list[StackSpec] = []

    def deploy(self, stack: StackSpec) -> None:
        """Remember."""
        self.stacks.append(stack)

    def route(self, request: Request) -> Decision:
        """Name `calendar`."""
        self.requests.append(request)
        if self.failure:
            raise self.failure
        return Decision(
            label="calendar",
            adapter=AdapterRef("calendar", "sha256:expert"),
            probabilities={"calendar": 0.9, "claim-window": 0.1},
            router=AdapterRef("router", "sha256:router"),
            stack=request.stack,
            timings={"route": 12.0},
            receipt=RECEIPT,
        )

    def infer(self, request: Request) -> StackedResult:
        """Click."""
        return StackedResult(
            decision=self.route(request),
            text='<tool_call>{"name": "click", "arguments": {"x": 1}}</tool_call>',
            tool_call={"name": "click", "arguments": {"x": 1}},
            tokens=9,
            finish_reason="stop",
            timings={"route": 12.0, "generate": 80.0},
            receipt=RECEIPT.answered("Click."),
        )

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """Click, in three deltas; `breaks` after the first of them."""
        try:
            result = self.infer(request)
            yield result.decision
            yield TextDelta(result.text[:11])
            if self.breaks:
                raise self.breaks
            yield TextDelta(result.text[11:20])
            yield TextDelta(result.text[20:])
            yield result
        finally:
            self.closed_streams += 1

    def status(self) -> dict[str, object]:
        """Fine."""
        if self.failure:
            raise self.failure
        return {"device": "cpu"}

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture(autouse=True)
def fresh_throttles() -> None:
    """Each test begins with nobody throttled and all places free."""
    cache.clear()
    get_admission.cache_clear()


@pytest.fixture
def engine(settings: object) -> Iterator[ScriptedEngine]:
    """The engine behind `inference.services`."""
    settings.ENGINE = {"BACKEND": f"{__name__}.ScriptedEngine", "OPTIONS": {}}  # type: ignore[attr-defined]
    get_engine.cache_clear()
    yield get_engine()  # type: ignore[misc]
    get_engine.cache_clear()


@pytest.fixture
def champion(db: None) -> Stack:
    """A stack that serves."""
    return make_champion()


@pytest.fixture
def anonymous(db: None) -> APIClient:
    """Nobody."""
    return APIClient()


@pytest.fixture
def reader(db: None) -> APIClient:
    """A user who may read and infer."""
    return make_client()


@pytest.fixture
def staff(db: None) -> APIClient:
    """A user who may launch, register and promote."""
    return make_client(staff=True)
