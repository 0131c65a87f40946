"""LLaVA `conversations`: the turns of one sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasets_app.errors import InputError

IMAGE_TAG = "<image>"
MAX_PROMPT = 16_000  # characters
CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen's special tokens, which end or structure a turn wherever they stand in one."""


@dataclass(frozen=True)
class Turns:
    """The three turns of a sample; `human` still has its `<image>` tag."""

    system: str | None
    human: str
    answer: str

    def to_json(self) -> list[dict[str, str]]:
        """The turns as LLaVA writes them."""
        turns = [("system", self.system), ("human", self.human), ("gpt", self.answer)]
        return [{"from": speaker, "value": value} for speaker, value in turns if value is not None]


def read_turns(record: dict[str, Any]) -> Turns:
    """Return the checked turns of `record`: an optional system, a human with one image, a gpt turn."""
    turns = record.get("conversations")
    if not isinstance(turns, list):
        raise InputError("field 'conversations' must be a list of turns.")
    for turn in turns:
        if not isinstance(turn, dict) or not all(isinstance(turn.get(key), str) for key in ("from", "value")):
            raise InputError("each turn needs the texts 'from' and 'value'.")
    speakers = [turn["from"] for turn in turns]
    if speakers not in (["human", "gpt"], ["system", "human", "gpt"]):
        raise InputError("the turns must be an optional 'system', one 'human' and last one 'gpt'.")
    *system, human, answer = (turn["value"] for turn in turns)
    if human.count(IMAGE_TAG) != 1:
        raise InputError(f"the human turn must hold {IMAGE_TAG} exactly once, not {human.count(IMAGE_TAG)} times.")
    if any(IMAGE_TAG in text for text in (*system, answer)):
        raise InputError(f"{IMAGE_TAG} belongs in the human turn only.")
    if not answer.strip():
        raise InputError("the gpt turn is empty.")
    for speaker, text in (*(("system", text) for text in system), ("gpt", answer)):
        if found := next((token for token in CONTROL_TOKENS if token in text), None):
            raise InputError(f"the {speaker} turn holds {found}, one of the model's control tokens: leave it out.")
    return Turns(system[0] if system else None, human, answer)


def user_words(human: str) -> str:
    """The human turn without its `<image>` tag."""
    return human.replace(IMAGE_TAG, "", 1).strip()


def check_prompt(prompt: str) -> None:
    """InputError if the user's words are longer than any engine takes."""
    if len(prompt) > MAX_PROMPT:
        raise InputError(f"The prompt has {len(prompt)} characters; at most {MAX_PROMPT} are accepted.")
