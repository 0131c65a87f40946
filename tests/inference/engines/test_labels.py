"""Probabilities of labels from limited answers, against a decoder that does it token by token as vLLM does."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engines.base import EngineError
from inference.engines.http.labels import NEGLIGIBLE, Step, label_probabilities

END = "<|im_end|>"
LABELS = ["am", "amx", "an", "bo", "none"]
names = st.lists(st.text("abc-", min_size=1, max_size=5), min_size=1, max_size=7, unique=True)


class Decoder:
    """A random language model over `vocabulary`, limited at each token to what some label goes on with."""

    def __init__(self, vocabulary: Sequence[str], seed: int, top: int = 20) -> None:
        self.vocabulary, self.seed, self.top = vocabulary, seed, top
        self.asked: list[list[str]] = []

    def chances(self, labels: Sequence[str], said: str) -> dict[str, float]:
        allowed = [token for token in self.vocabulary if any(label.startswith(said + token) for label in labels)]
        allowed += [END] * (said in labels)
        weights = {token: math.exp(random.Random(f"{self.seed} {said} {token}").gauss(0, 1.5)) for token in allowed}
        return {token: weight / math.fsum(weights.values()) for token, weight in weights.items()}

    def __call__(self, labels: list[str]) -> list[Step]:
        self.asked.append(labels)
        steps, said = [], ""
        while True:
            chances = self.chances(labels, said)
            ranked = sorted(chances, key=lambda token: -chances[token])
            kept = {token: chances[token] for token in ranked[: self.top]}
            masked = {f"junk{number}": math.exp(-9999) for number in range(self.top - len(kept))}
            steps.append(Step(ranked[0], kept | masked))
            if ranked[0] == END:
                return steps
            said += ranked[0]

    def truth(self, labels: Sequence[str], said: str = "") -> dict[str, float]:
        """What a sampler that is limited to the labels says, by walking all its ways."""
        totals = dict.fromkeys(labels, 0.0)
        for token, chance in self.chances(labels, said).items():
            if token == END:
                totals[said] += chance
            else:
                for label, share in self.truth(labels, said + token).items():
                    totals[label] += chance * share
        return totals


@given(names, st.integers(0, 1000))
def test_one_token_a_character_gives_the_samplers_distribution(labels: list[str], seed: int) -> None:
    decoder = Decoder("abc-", seed)
    found = label_probabilities(labels, decoder)
    assert list(found) == labels
    assert found == pytest.approx(decoder.truth(labels), abs=10 * NEGLIGIBLE)
    assert sum(found.values()) == pytest.approx(1)


def test_names_that_begin_differently_take_one_answer() -> None:
    decoder = Decoder(["calendar", "claim", "-window", "provider-select", "none"], seed=1)
    labels = ["calendar", "claim-window", "provider-select", "none"]
    found = label_probabilities(labels, decoder)
    assert decoder.asked == [labels]
    assert found == pytest.approx(decoder.truth(labels))


def test_no_group_is_asked_about_twice() -> None:
    for seed in range(50):
        decoder = Decoder(["a", "am", "amx", "an", "m", "x", "n", "bo", "b", "o", "none", "no", "ne", "e"], seed)
        label_probabilities(LABELS, decoder)
        assert len({tuple(labels) for labels in decoder.asked}) == len(decoder.asked) <= len(LABELS)


def test_a_server_that_tells_of_the_likeliest_only_is_asked_about_the_others() -> None:
    labels = [f"{letter}x" for letter in "abcdefghijklmnop"]
    decoder = Decoder("abcdefghijklmnopx", seed=3, top=4)
    found = label_probabilities(labels, decoder)
    assert len(decoder.asked) > 1
    assert found == pytest.approx(Decoder("abcdefghijklmnopx", seed=3).truth(labels), abs=10 * NEGLIGIBLE)


def test_an_answer_that_is_no_label_is_an_error() -> None:
    with pytest.raises(EngineError, match="no label"):
        label_probabilities(["a", "b"], lambda _: [Step("Sure", {"Sure": 1.0}), Step(END, {END: 1.0})])


@pytest.mark.parametrize("told", [{}, {"a": 0.0}, {"a": 0.0, "b": 0.0}, {"a": 0.0, "junk": 1.0}, {"a": 0.0, "c": 0.9}])
def test_a_server_that_gives_its_own_answer_no_probability_is_an_error(told: dict[str, float]) -> None:
    """As that of a log-probability of -9999 is."""
    with pytest.raises(EngineError, match="gives its own answer no probability"):
        label_probabilities(["a", "b"], lambda _: [Step("a", {"a": 0.0} | told), Step(END, {END: 1.0})])


def test_probabilities_that_cannot_be_divided_are_none() -> None:
    """5e-324, as of a log-probability of -744, has no half."""
    answer = [Step("a", {"a": 5e-324, "b": 5e-324}), Step("x", {"x": 0.5, "y": 0.5}), Step(END, {END: 1.0})]
    with pytest.raises(EngineError, match="gives its own answer no probability"):
        label_probabilities(["ax", "ay", "bx", "by"], lambda _: answer)


def test_a_way_that_all_labels_share_is_asked_about_once() -> None:
    """Another token that all of them may begin with tells nothing."""
    answer = [Step("ab", {"ab": 0.5, "a": 0.4999}), Step(END, {END: 0.75, "c": 0.25})]

    def ask(labels: list[str]) -> list[Step]:
        asked.append(labels)
        return answer

    asked: list[list[str]] = []
    found = label_probabilities(["ab", "abc"], ask)
    assert asked == [["ab", "abc"]]
    assert found == pytest.approx({"ab": 0.75, "abc": 0.25})
