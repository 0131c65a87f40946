"""A choice shown token by token."""

from __future__ import annotations

import math

import pytest

from inference.engines.chat import Token
from inference.server.choices import IMPOSSIBLE, logprobs

END = Token(0, "<|im_end|>")
SPELLED = {word: [*(Token(ord(letter), letter) for letter in word), END] for word in ("am", "amx", "an", "bo")}
CHANCES = {"am": 0.4, "amx": 0.3, "an": 0.2, "bo": 0.1}


@pytest.mark.parametrize("chosen", CHANCES)
def test_the_tokens_of_a_choice_multiply_to_its_probability(chosen: str) -> None:
    content = logprobs(CHANCES, SPELLED, chosen, 20)
    assert [entry["token"] for entry in content] == [token.text for token in SPELLED[chosen]]
    assert math.exp(sum(entry["logprob"] for entry in content)) == pytest.approx(CHANCES[chosen])
    for entry in content:
        assert math.fsum(math.exp(one["logprob"]) for one in entry["top_logprobs"]) == pytest.approx(1)


def test_the_likeliest_come_first_and_no_more_than_asked_for() -> None:
    first, second, *_ = logprobs(CHANCES, SPELLED, "am", 1)
    assert [one["token"] for one in first["top_logprobs"]] == ["a"]
    assert [one["token"] for one in second["top_logprobs"]] == ["m"]
    assert all(entry["top_logprobs"] == [] for entry in logprobs(CHANCES, SPELLED, "am", 0))


def test_what_is_impossible_is_a_number() -> None:
    content = logprobs({"am": 1.0, "bo": 0.0}, SPELLED, "am", 20)
    assert content[0]["top_logprobs"][1]["logprob"] == IMPOSSIBLE
