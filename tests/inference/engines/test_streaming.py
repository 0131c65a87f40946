"""Streams of every engine, and text that comes in tokens."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_app.errors import InputError
from inference.engines.base import Engine, StackNotDeployed
from inference.engines.in_process.prompts import PromptBuilder
from inference.engines.in_process.text import TextStream
from inference.engines.types import Decision, StackedResult, TextDelta
from tests.inference.engines.small import make_processor

PROMPTS = PromptBuilder(make_processor())


def test_a_stream_is_the_decision_the_text_and_the_result(world: Any, any_engine: Engine) -> None:
    for request in world.requests(4):
        request = replace(request, max_tokens=16)
        decision, *deltas, result = any_engine.stream(request)
        whole = any_engine.infer(request)
        assert isinstance(decision, Decision) and isinstance(result, StackedResult)
        assert result.decision == decision
        assert (result.text, result.tokens, result.finish_reason) == (whole.text, whole.tokens, whole.finish_reason)
        assert all(isinstance(delta, TextDelta) and delta.text for delta in deltas)
        assert "".join(delta.text for delta in deltas) == result.text


def test_words_may_hold_what_others_take_for_the_end_of_a_line(world: Any, any_engine: Engine) -> None:
    """The receipt of the decision holds them as they are."""
    request = replace(world.requests(1)[0], prompt="one\u2028two\u2029three\x85four\x0b\x0c\x1c\x1d\x1e\r\n.")
    decision, *_, result = any_engine.stream(request)
    assert isinstance(decision, Decision) and isinstance(result, StackedResult)
    assert decision.receipt is not None and decision.receipt.prompt == request.prompt
    assert result.text == any_engine.infer(request).text


def test_whoever_closes_a_stream_ends_the_request(world: Any, any_engine: Engine, remote: Engine) -> None:
    owner = any_engine if "running" in any_engine.status() else remote  # OpenAI's protocol has no such figures
    for request in world.requests(2):
        events = any_engine.stream(replace(request, max_tokens=3900))
        next(events)
        events.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20
    while owner.status()["running"] or owner.status()["waiting"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_wrong_is_told_by_the_first_step(world: Any, any_engine: Engine) -> None:
    request = world.requests(1)[0]
    with pytest.raises(InputError, match="PNG, JPEG or WEBP"):
        next(any_engine.stream(replace(request, image=b"")))
    with pytest.raises(StackNotDeployed):
        next(any_engine.stream(replace(request, stack="sha256:" + "0" * 64)))


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), st.lists(st.integers(0, 255), max_size=6))
def test_no_character_is_ever_split(text: str, noise: list[int]) -> None:
    """Whole characters as they are, and bytes that are none, as the text of all tokens has them."""
    ids = PROMPTS.name_ids(text) + noise + PROMPTS.name_ids(text)
    stream = TextStream(PROMPTS)
    deltas = [stream.push(token) for token in ids]
    assert "".join(deltas) + stream.rest() == PROMPTS.text(ids)
    if not noise:
        assert all(delta in text + text for delta in deltas)
