"""The keys and values of the sequences that are being decoded, a row each; rows come and go."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

FIRST_TOKENS = 256


class KeysValues:
    """What attention remembers of each row's tokens; the model's forward writes to it as it would to a HF cache.

    Rows lie without gaps: the last one moves into the place of one that leaves. `lengths` are the tokens of each.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._keys: list[torch.Tensor] = []  # a layer: (rows, heads, tokens, head size), of which much may be unused
        self._values: list[torch.Tensor] = []
        self._row = self._column = torch.empty(0)

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return sum(part.nbytes for part in (*self._keys, *self._values))

    def join(self, prompts: DynamicCache, row: int, length: int) -> None:
        """Add a row: the last `length` tokens of row `row` of a forward pass over prompts padded on the left."""
        layers: Any = prompts.layers
        if not self._keys:
            shape = layers[0].keys.shape
            empty = (0, shape[1], 0, shape[3])
            self._keys = [layer.keys.new_zeros(empty) for layer in layers]
            self._values = [layer.values.new_zeros(empty) for layer in layers]
        self._reserve(len(self.lengths) + 1, length + 1)
        for mine, other in zip(self._keys, layers, strict=True):
            mine[len(self.lengths), :, :length] = other.keys[row, :, -length:]
        for mine, other in zip(self._values, layers, strict=True):
            mine[len(self.lengths), :, :length] = other.values[row, :, -length:]
        self.lengths.append(length)

    def leave(self, row: int) -> None:
        """Remove a row; the last one takes its number. With the last of all goes the room that was made for many."""
        last = len(self.lengths) - 1
        if not last:
            self.lengths, self._keys, self._values = [], [], []
            return
        for part in (*self._keys, *self._values):
            if row != last:
                part[row] = part[last]
            part[last].zero_()  # What a later row masks may be anything but NaN.
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def trim(self) -> bool:
        """Let go of the room of rows that have left; whether there was any. It takes a part's memory to do so."""
        trimmed = False
        for parts in (self._keys, self._values):
            for i, old in enumerate(parts):
                if old.shape[0] > len(self.lengths):
                    parts[i], trimmed = old[: len(self.lengths)].clone(), True
        return trimmed

    def begin(self, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Make room for one more token a row; returns the additive attention mask (rows, 1, 1, tokens)."""
        self._reserve(len(self.lengths), max(self.lengths) + 1)
        self._column = torch.tensor(self.lengths, device=device)
        self._row = torch.arange(len(self.lengths), device=device)
        hidden = torch.arange(max(self.lengths) + 1, device=device) > self._column[:, None]
        mask = torch.zeros(hidden.shape, dtype=dtype, device=device)
        return mask.masked_fill_(hidden, torch.finfo(dtype).min)[:, None, None]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by the model's attention: take a token's keys and values, give those of all."""
        rows, tokens = len(self.lengths), max(self.lengths) + 1
        self._keys[layer][self._row, :, self._column] = keys[:, :, 0]
        self._values[layer][self._row, :, self._column] = values[:, :, 0]
        return self._keys[layer][:rows, :, :tokens], self._values[layer][:rows, :, :tokens]

    def finish(self) -> None:
        """The forward pass has succeeded: its tokens stay. Without this call it can be repeated."""
        self.lengths = [length + 1 for length in self.lengths]

    def _reserve(self, rows: int, tokens: int) -> None:
        """Each part by itself: where memory runs out in between, those before it have the room already."""
        for parts in (self._keys, self._values):
            for i, old in enumerate(parts):
                if old.shape[0] < rows or old.shape[2] < tokens:
                    parts[i] = _larger(old, rows, tokens)


def _larger(old: torch.Tensor, rows: int, tokens: int) -> torch.Tensor:
    """The same with room to spare; room for rows that have left is not made longer with the others."""
    have_tokens = old.shape[2]
    have_rows = 1 if tokens > have_tokens else max(1, old.shape[0])
    while have_rows < rows:
        have_rows *= 2
    while have_tokens < tokens:
        have_tokens = max(FIRST_TOKENS, 2 * have_tokens)
    new = old.new_zeros(have_rows, old.shape[1], have_tokens, old.shape[3])
    kept = min(have_rows, old.shape[0])
    new[:kept, :, : old.shape[2]] = old[:kept]
    return new
