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
    tail token i. The token that ends a name is predicted but never fed, so that a name which begins another
    one is told apart from it.
    """

    ids: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def longest(self) -> int:
        """How many tokens the longest name has, without the end token."""
        return max(self.depths) + 1

    @classmethod
    def build(cls, names: Sequence[Sequence[int]], end: int) -> NameTrie:
        """Pack `names`, each a sequence of token ids without the `end` token that closes it.

        Raises ValueError if a name is empty, holds `end`, or is given twice.
        """
        nodes: dict[tuple[int, ...], int] = {(): -1}
        ids: list[int] = []
        parents: list[int] = []
        depths: list[int] = []
        paths = []
        for name in names:
            tokens = tuple(name)
            if not tokens or end in tokens:
                raise ValueError("A name needs at least one token and must not hold the end token.")
            path = []
            for depth, token in enumerate(tokens):
                parent = nodes[tokens[:depth]]
                path.append((parent + 1, token))
                if tokens[: depth + 1] not in nodes:
                    nodes[tokens[: depth + 1]] = len(ids)
                    ids.append(token)
                    parents.append(parent)
                    depths.append(depth)
            path.append((nodes[tokens] + 1, end))
            paths.append(tuple(path))
        if len(set(paths)) != len(paths):
            raise ValueError("Two names have the same tokens.")
        return cls(tuple(ids), tuple(parents), tuple(depths), tuple(paths))

    def visible(self) -> list[list[bool]]:
        """The attention mask inside the tail: row `i` is True at token `i` and at those it continues."""
        rows: list[list[bool]] = []
        for i, parent in enumerate(self.parents):
            row = list(rows[parent]) if parent >= 0 else [False] * len(self.ids)
            row[i] = True
            rows.append(row)
        return rows
