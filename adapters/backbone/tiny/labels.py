"""Which glyph stands where: dense labels that teach the vision tower to read before anybody asks it a question.

A screen is cut into slots of 8 x 16 pixels, about one character each. A visual token covers 2 rows of 4 slots.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import SIDE, TOKENS
from .screens import RecordedScreen

ACROSS, DOWN = 4, 2
"""Slots across and down one visual token."""

_GLYPHS = "0123456789abcdefghijklmnopqrstuvwxyz"
CLASSES = len(_GLYPHS) + 2
"""Class 0 is an empty slot, then digits, letters without their case, and anything else."""

MARKED_CLASSES = 12
"""Class 0 is a slot off the selection colour, 1 one on it without a digit, then the digits on it."""


def glyph_labels(screen: RecordedScreen) -> Tensor:
    """Classes of all glyphs, and of what is marked: uint8, (2, TOKENS * TOKENS, DOWN * ACROSS)."""
    width, height = SIDE // (TOKENS * ACROSS), SIDE // (TOKENS * DOWN)
    labels = torch.zeros(2, TOKENS * DOWN, TOKENS * ACROSS, dtype=torch.uint8)
    for left, top, right, bottom in screen.boxes:
        first, last = round(left / width), round((right + 1) / width)
        labels[1, round(top / height) : round((bottom + 1) / height), first:last] = 1
    for glyph in screen.glyphs:
        row, column = int(glyph.y) // height, int(glyph.x) // width
        if glyph.character == " " or not (0 <= row < labels.shape[1] and 0 <= column < labels.shape[2]):
            continue
        index = _GLYPHS.find(glyph.character.lower())
        labels[0, row, column] = index + 1 if index >= 0 else CLASSES - 1
        if glyph.marked and 0 <= index < 10:
            labels[1, row, column] = index + 2
    tokens = labels.view(2, TOKENS, DOWN, TOKENS, ACROSS).transpose(2, 3)
    return tokens.reshape(2, TOKENS * TOKENS, DOWN * ACROSS)


def patch_labels(labels: Tensor) -> Tensor:
    """The same labels by vision patch: (batch, 2, tokens, 8) becomes (batch, 2, tokens * 4, 2)."""
    batch, maps, tokens, _ = labels.shape
    # Patches come token by token, the four of a token row by row.
    return labels.view(batch, maps, tokens, DOWN, 2, ACROSS // 2).reshape(batch, maps, tokens * 4, ACROSS // 2)


class ReadingHead(nn.Module):
    """A linear reader of visual features, thrown away after pretraining.

    It teaches the vision tower to read without an untrained language model in between.
    """

    def __init__(self, width: int, slots: int) -> None:
        super().__init__()
        self.glyphs = nn.Linear(width, slots * CLASSES)
        self.marked = nn.Linear(width, slots * MARKED_CLASSES)

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and the shares of glyphs and of marked digits read right.

        `features` is (batch * places, width), `labels` (batch, 2, places, slots).
        """
        glyphs, marked = (part.flatten() for part in labels.long().unbind(1))
        read = self.glyphs(features).view(-1, CLASSES)
        read_marked = self.marked(features).view(-1, MARKED_CLASSES)
        loss = _balanced(read, glyphs) + _balanced(read_marked, marked)
        return loss, _right(read, glyphs, glyphs > 0), _right(read_marked, marked, marked > 1)


def _balanced(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in which all empty slots weigh as much as all full ones."""
    losses = functional.cross_entropy(logits, labels, reduction="none")
    full = (labels > 0).float()
    return (losses * full).sum() / full.sum().clamp(min=1) + (losses * (1 - full)).sum() / (1 - full).sum()


def _right(logits: Tensor, labels: Tensor, where: Tensor) -> Tensor:
    return (logits.argmax(-1) == labels)[where].float().mean()
