"""Auxiliary heads: what the vision tower is asked directly while it learns to see."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import MERGED, PATCH, WIDTH
from .questions import KINDS, SLOT_HEIGHT, SLOT_WIDTH, Scene


class Heads(nn.Module):
    """Auxiliary heads on the vision features, thrown away after pretraining.

    They give the vision tower a gradient that does not have to pass through an untrained language model: each visual
    token says which digit stands in it and which of its slots are marked; all together, the kind of screen and the
    marked row and column.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.kind = nn.Linear(width, len(KINDS))
        self.row = nn.Linear(width, 8)
        self.column = nn.Linear(width, 8)
        self.slots = PATCH * 2 // SLOT_HEIGHT * (PATCH * 2 // SLOT_WIDTH)
        self.digits = nn.Linear(width, 11)
        self.marked = nn.Linear(width, self.slots)

    def forward(self, features: Tensor, scenes: list[Scene]) -> tuple[Tensor, Tensor]:
        """The loss and the share of digits read right; `features`: (batch, MERGED, width)."""
        pooled = features.amax(1)
        kind = torch.tensor([scene.kind for scene in scenes])
        row = torch.tensor([scene.row for scene in scenes])
        column = torch.tensor([scene.column for scene in scenes])
        digits = by_token([scene.screen.digits for scene in scenes]).amax(-1).flatten()
        marked = by_token([scene.screen.marked for scene in scenes]).float()
        weight = torch.ones(11)
        weight[0] = 0.1  # most tokens hold no digit
        logits = self.digits(features).view(-1, 11)
        reading = functional.cross_entropy(logits, digits, weight=weight)
        marking = functional.binary_cross_entropy_with_logits(
            self.marked(features), marked, pos_weight=torch.tensor(5.0)
        )
        right = (logits.argmax(-1) == digits)[digits > 0].float().mean()
        places = functional.cross_entropy(self.row(pooled), row) + functional.cross_entropy(self.column(pooled), column)
        return functional.cross_entropy(self.kind(pooled), kind) + places + reading + marking, right


def by_token(grids: list[list[list[int]]]) -> Tensor:
    """Slot grids as (batch, MERGED, slots a token), tokens in reading order."""
    grid = torch.tensor(grids)
    high, wide = PATCH * 2 // SLOT_HEIGHT, PATCH * 2 // SLOT_WIDTH
    batch, rows, columns = grid.shape
    grid = grid.view(batch, rows // high, high, columns // wide, wide).transpose(2, 3)
    return grid.reshape(batch, MERGED, high * wide)
