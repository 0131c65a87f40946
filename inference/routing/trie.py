"""The allowed names as one tail behind the prompt, so that one forward pass scores them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class NameTrie:
    """A token trie, flattened: what names begin with alike is fed to the model once.

    Tail token `i` continues tail token `parents[i]`, or the prompt's last token where that is -1, and is
    `depths[i]` tokens behind the prompt (0 for the first). `paths[n]` scores name `n`: its pairs (row, token)
    say which logits predict which of its tokens; row 0 belongs to the prompt's last token, row i + 1 to
    tail token i.

    A name's last token is predicted but never fed, unless other names continue it: then the end token is predicted
    behind it, which tells the name from those. What would follow any other name is no name, so it is not asked for.
    """

    ids: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def longest(self) -> int:
        """How many tokens the longest path predicts."""
        return max(map(len, self.paths))

    @classmethod
    def build(cls, names: Sequence[Sequence[int]], end: int) -> NameTrie:
        """Pack `names`, each a sequence of token ids without the `end` token that closes it.

        Raises ValueError if a name is empty, holds `end`, or is given twice.
        """
        words = [tuple(name) for name in names]
        if not all(words) or any(end in word for word in words):
            raise ValueError("A name needs at least one token and must not hold the end token.")
        if len(set(words)) != len(words):
            raise ValueError("Two names have the same tokens.")
        beginnings = dict.fromkeys(word[:length] for word in words for length in range(1, len(word)))
        nodes = {beginning: node for node, beginning in enumerate(beginnings)} | {(): -1}
        paths = []
        for word in words:
            steps = (*word, end) if word in nodes else word
            paths.append(tuple((nodes[word[:depth]] + 1, token) for depth, token in enumerate(steps)))
        return cls(
            ids=tuple(beginning[-1] for beginning in beginnings),
            parents=tuple(nodes[beginning[:-1]] for beginning in beginnings),
            depths=tuple(len(beginning) - 1 for beginning in beginnings),
            paths=tuple(paths),
        )

    def visible(self) -> list[list[bool]]:
        """The attention mask inside the tail: row `i` is True at token `i` and at those it continues."""
        rows: list[list[bool]] = []
        for i, parent in enumerate(self.parents):
            row = list(rows[parent]) if parent >= 0 else [False] * len(self.ids)
            row[i] = True
            rows.append(row)
        return rows
