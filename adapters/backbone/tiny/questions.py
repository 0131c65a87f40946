"""Generic questions about drawn screens. No adapter's name and no expert's tool occurs in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from .screens import Facts

PLAIN = ("You are a helpful assistant.", "You look at a screen. Answer briefly.", "Read the screen.")
CALLING = ("Answer with one tool call.", "You use a screen. Answer with one tool call.", "Call a tool.")


@dataclass(frozen=True)
class Turn:
    """A question with its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Conversation:
    """A system prompt, or none, and one or more turns about the same screen."""

    system: str | None
    turns: tuple[Turn, ...]


def converse(facts: Facts, rng: Random, most: int = 3) -> Conversation:
    """Up to `most` different questions about a screen, all answered in plain words or all by tool calls."""
    calling = rng.random() < 0.5
    turns = _turns(facts, rng, calling)
    rng.shuffle(turns)
    system = rng.choice(CALLING if calling else (*PLAIN, None))
    return Conversation(system, tuple(turns[: rng.randint(1, most)]))


def _turns(facts: Facts, rng: Random, calling: bool) -> list[Turn]:
    kind = Turn(rng.choice(("What kind of screen is this?", "Name the screen.")), facts.kind)
    turns = [kind] if rng.random() < 0.4 else []
    if facts.marked is not None:
        prompt = rng.choice(("Which number is marked?", "Read the marked number.", "Take the marked number."))
        turns.append(_turn(prompt, "report_value", "value", int(facts.marked), calling))
    if facts.boxed is not None:
        prompt = rng.choice(("Read the boxed number.", "Which number is boxed?", "Take the boxed number."))
        turns.append(_turn(prompt, "report_text", "text", facts.boxed, calling))
    for name, position in (("row", facts.row), ("column", facts.column)):
        if position is not None and (name == "row" or rng.random() < 0.4):
            prompt = rng.choice((f"Which {name} is marked?", f"Find the marked {name}."))
            turns.append(_turn(prompt, f"report_{name}", "index", position, calling))
    if facts.rows is not None and rng.random() < 0.4:
        turns.append(_turn("How many rows are there?", "count_rows", "rows", facts.rows, calling))
    for index, (label, number) in enumerate(facts.numbers.items(), start=1):
        where = f"beside {label}" if rng.random() < 0.7 else f"in row {index}"
        prompt = rng.choice((f"Read the number {where}.", f"What is the number {where}?", f"Take the number {where}."))
        turns.append(_turn(prompt, "report_text", "text", number, calling))
    return turns or [kind]


def _turn(question: str, tool: str, argument: str, value: str | int, calling: bool) -> Turn:
    if not calling:
        return Turn(question, str(value))
    call = json.dumps({"name": tool, "arguments": {argument: value}})
    return Turn(question, f"<tool_call>\n{call}\n</tool_call>")
