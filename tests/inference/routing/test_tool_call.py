"""Strict parsing of tool calls."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engines import wire
from inference.engines.types import AdapterRef, Decision, StackedResult
from inference.routing.tool_call import parse_tool_call

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def call(depth: int) -> str:
    """An answer with so many lists within each other."""
    return '<tool_call>{"name": "a", "arguments": {"x": ' + "[" * depth + "]" * depth + "}}</tool_call>"


@given(texts.filter(bool), st.dictionaries(texts, values, max_size=4), st.sampled_from(["", "\n", " I click. "]))
def test_what_is_written_is_read(name: str, arguments: dict[str, object], around: str) -> None:
    body = json.dumps({"name": name, "arguments": arguments}).replace("<", "\\u003c")
    text = f"{around}<tool_call>\n{body}\n</tool_call>{around}"
    assert parse_tool_call(text) == {"name": name, "arguments": arguments}


@given(st.text())
def test_any_text_is_a_call_or_none(text: str) -> None:
    assert parse_tool_call(text) is None
    assert parse_tool_call(f"<tool_call>{text}</tool_call>") is None or "name" in text


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "a", "arguments": {}}',
        '</tool_call>{"name": "a", "arguments": {}}<tool_call>',
        '<tool_call>{"name": "a", "arguments": {}}</tool_call>' * 2,
        '<tool_call>{"name": "a", "arguments": {}}{"name": "b", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "a"}</tool_call>',
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        '<tool_call>{"name": 1, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "a", "arguments": []}</tool_call>',
        '<tool_call>{"name": "a", "arguments": "{}"}</tool_call>',
        '<tool_call>{"name": "a", "arguments": {}, "id": 1}</tool_call>',
        '<tool_call>{"name": "a", "name": "b", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "a", "arguments": {"x": NaN}}</tool_call>',
        '<tool_call>{"name": "a", "arguments": {"x": 1e400}}</tool_call>',
        '<tool_call>{"name": "a", "arguments": {"x": "\\ud800"}}</tool_call>',
        '<tool_call>{"name": "a", "arguments": {"x": "\\u0000"}}</tool_call>',
        '<tool_call>[{"name": "a", "arguments": {}}]</tool_call>',
        call(100),
        call(200),
        call(300),
        "<tool_call>" + "[" * 100_000 + "</tool_call>",
        "<tool_call>" + "1" * 10_000 + "</tool_call>",
        "",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert parse_tool_call(text) is None


@pytest.mark.parametrize("depth", [1, 31, 32, 300])
def test_whatever_is_a_call_crosses_the_wire(depth: int) -> None:
    parsed = parse_tool_call(call(depth))
    router = AdapterRef("router", "sha256:1")
    result = StackedResult(Decision("a", None, {"a": 1.0}, router, "sha256:2"), "", parsed, 1, "stop", {})
    assert wire.load_result(wire.dump_result(result)) == result
    assert (parsed is None) == (depth > 31)
