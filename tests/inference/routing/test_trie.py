"""The trie packs names so that every path scores one name and sees nothing else."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.routing.trie import NameTrie

END = 0
names = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=8, unique=True)


def ancestors(trie: NameTrie, node: int) -> list[int]:
    """Node and what it continues, from the beginning."""
    chain = []
    while node >= 0:
        chain.insert(0, node)
        node = trie.parents[node]
    return chain


def continued(words: list[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """What other names go on from."""
    return {word[:length] for word in words for length in range(1, len(word))}


@given(names)
def test_each_path_spells_its_name_and_sees_only_it(words: list[tuple[int, ...]]) -> None:
    trie = NameTrie.build(words, END)
    visible = trie.visible()
    for word, path in zip(words, trie.paths, strict=True):
        assert [token for _, token in path] == ([*word, END] if word in continued(words) else [*word])
        assert path[0][0] == 0
        nodes = [row - 1 for row, _ in path[1:]]
        assert [trie.ids[node] for node in nodes] == list(word[: len(nodes)])
        assert [trie.depths[node] for node in nodes] == list(range(len(nodes)))
        for node in nodes:
            assert [i for i, seen in enumerate(visible[node]) if seen] == ancestors(trie, node)


@given(names)
def test_only_what_names_go_on_from_is_fed_and_that_once(words: list[tuple[int, ...]]) -> None:
    assert len(NameTrie.build(words, END).ids) == len(continued(words))


@given(names, st.randoms(use_true_random=False))
def test_no_answer_counts_for_two_names(words: list[tuple[int, ...]], chance: random.Random) -> None:
    """Whatever the model is, the names' likelihoods sum to 1 at most."""
    trie, model = NameTrie.build(words, END), {}

    def likelihood(row: int, token: int) -> float:
        if row not in model:
            weights = [chance.random() + 1e-3 for _ in range(4)]
            model[row] = [weight / sum(weights) for weight in weights]
        return model[row][token]

    assert sum(math.prod(likelihood(*step) for step in path) for path in trie.paths) <= 1 + 1e-9


def test_names_of_one_token_feed_nothing() -> None:
    trie = NameTrie.build([(1,), (2,), (3,)], END)
    assert (trie.ids, trie.paths) == ((), (((0, 1),), ((0, 2),), ((0, 3),)))


@pytest.mark.parametrize("words", [[()], [(1,), (1,)], [(1, END)]])
def test_unscorable_names_are_refused(words: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="name"):
        NameTrie.build(words, END)
