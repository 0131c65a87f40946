"""The trie packs names so that every path scores one name and sees nothing else."""

from __future__ import annotations

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


@given(names)
def test_each_path_spells_its_name_and_sees_only_it(words: list[tuple[int, ...]]) -> None:
    trie = NameTrie.build(words, END)
    visible = trie.visible()
    for word, path in zip(words, trie.paths, strict=True):
        assert [token for _, token in path] == [*word, END]
        assert path[0][0] == 0
        nodes = [row - 1 for row, _ in path[1:]]
        assert [trie.ids[node] for node in nodes] == list(word)
        assert [trie.depths[node] for node in nodes] == list(range(len(word)))
        for node in nodes:
            assert [i for i, seen in enumerate(visible[node]) if seen] == ancestors(trie, node)


@given(names)
def test_shared_beginnings_are_fed_once(words: list[tuple[int, ...]]) -> None:
    trie = NameTrie.build(words, END)
    assert len(trie.ids) == len({word[: i + 1] for word in words for i in range(len(word))})


@pytest.mark.parametrize("words", [[()], [(1,), (1,)], [(1, END)]])
def test_unscorable_names_are_refused(words: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="name"):
        NameTrie.build(words, END)
