"""LoRA for batches in which every row may have another adapter.

An adapter lies in a *slot*, the same number in every module. The slots of a batch's rows are told once per forward
pass; every module then adds `B[slot] A[slot] x` to each row: by one wide product for single tokens, by one batched
product for whole prompts, by a plain one where all rows share a slot, and never by a loop over the adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from adapters.base_shape import LANGUAGE_MODULES

NO_ADAPTER = 0
"""The slot that stays empty: a row with it is answered by the base model alone."""

FIRST_SLOTS = 4

Weights = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
"""By module (`layers.0.self_attn.q_proj`): A (rank, in) and B (out, rank), the latter already scaled."""


class Rows:
    """The slots of a batch's rows; it keeps what the modules gathered for them while the batch stays the same."""

    def __init__(self, slots: Sequence[int], device: torch.device) -> None:
        distinct = sorted(set(slots))
        self.only = distinct[0] if len(distinct) == 1 else None
        self.slots = torch.tensor(slots, device=device)
        self._distinct = torch.tensor(distinct, device=device)
        self._foreign = self.slots[:, None] != self._distinct
        self._wide: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}
        self._masks: dict[int, torch.Tensor] = {}

    def wide(self, module: SlotLinear) -> tuple[torch.Tensor, torch.Tensor]:
        """The adapters that occur, side by side: A (adapters * rank, in) and B (out, adapters * rank)."""
        if module not in self._wide:
            a, b = module.a[self._distinct], module.b[self._distinct]
            self._wide[module] = a.flatten(0, 1), b.permute(1, 0, 2).flatten(1)
        return self._wide[module]

    def foreign(self, wide_a: torch.Tensor) -> torch.Tensor:
        """(rows, 1, adapters * rank): True at the columns of a `wide` A that belong to another row's adapter.

        Its rank is that of when it was gathered: the slots may have grown since.
        """
        rank = wide_a.shape[0] // len(self._distinct)
        if rank not in self._masks:
            self._masks[rank] = self._foreign.repeat_interleave(rank, dim=1)[:, None]
        return self._masks[rank]


class Assignment:
    """What the rows of the forward pass at hand are, None for the base alone. Shared by all modules of a model."""

    rows: Rows | None = None


class SlotLinear(nn.Module):
    """A linear layer of the base, with A `a` (slots, rank, in) and B `b` (slots, out, rank) beside it."""

    base: nn.Module
    a: torch.Tensor
    b: torch.Tensor

    def __init__(self, base: nn.Linear, assignment: Assignment) -> None:
        super().__init__()
        self.base = base
        self._assignment = assignment
        self.register_buffer("a", base.weight.new_zeros(1, 1, base.in_features), persistent=False)
        self.register_buffer("b", base.weight.new_zeros(1, base.out_features, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The base's output (rows, tokens, out) plus each row's adapter's share."""
        out: torch.Tensor = self.base(x)
        rows = self._assignment.rows
        if rows is None or rows.only == NO_ADAPTER:
            return out
        if rows.only is not None:
            low = functional.linear(x, self.a[rows.only])
            return out.flatten(0, 1).addmm_(low.flatten(0, 1), self.b[rows.only].t()).view_as(out)
        if x.shape[1] == 1:
            a, b = rows.wide(self)
            # Filled, not multiplied by zero: another row's infinity must not become this row's NaN.
            low = functional.linear(x, a).masked_fill_(rows.foreign(a), 0)
            return out.flatten(0, 1).addmm_(low.flatten(0, 1), b.t()).view_as(out)
        low = torch.bmm(x, self.a[rows.slots].transpose(1, 2))
        return out.baddbmm_(low, self.b[rows.slots].transpose(1, 2))

    def resize(self, slots: int, rank: int) -> None:
        """Room for at least so many slots of that rank; what lies in them stays."""
        slots, rank = max(slots, self.a.shape[0]), max(rank, self.a.shape[1])
        if self.a.shape[:2] == (slots, rank):
            return
        a = self.a.new_zeros(slots, rank, self.a.shape[2])
        b = self.b.new_zeros(slots, self.b.shape[1], rank)
        a[: self.a.shape[0], : self.a.shape[1]] = self.a
        b[: self.b.shape[0], :, : self.b.shape[2]] = self.b
        self.a, self.b = a, b

    def write(self, slot: int, weights: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        """Fill the slot, beyond the weights' own rank with zeros; None empties it."""
        self.a[slot].zero_()
        self.b[slot].zero_()
        if weights is not None:
            a, b = weights
            self.a[slot, : a.shape[0]] = a
            self.b[slot, :, : b.shape[1]] = b


class LoraSlots:
    """The slots in all adaptable modules of a `Qwen3VLForConditionalGeneration`, whose linear layers it wraps.

    Only the thread that runs the model may call this.
    """

    def __init__(self, model: Any) -> None:
        self._device: torch.device = model.device
        self._assignment = Assignment()
        self._modules: dict[str, SlotLinear] = {}
        self._slots, self._rank = 1, 1
        for number, layer in enumerate(model.model.language_model.layers):
            for name, block in LANGUAGE_MODULES.items():
                parent = getattr(layer, block)
                module = SlotLinear(getattr(parent, name), self._assignment)
                setattr(parent, name, module)
                self._modules[f"layers.{number}.{block}.{name}"] = module

    @property
    def nbytes(self) -> int:
        """Bytes that the slots take, filled or not."""
        return sum(module.a.nbytes + module.b.nbytes for module in self._modules.values())

    def write(self, slot: int, weights: Weights) -> None:
        """Put an adapter into `slot`; the slots are doubled until there is such a one."""
        slots = self._slots
        while slots <= slot:
            slots = max(FIRST_SLOTS, 2 * slots)
        rank = max(self._rank, *(a.shape[0] for a, _ in weights.values()))
        for name, module in self._modules.items():
            module.resize(slots, rank)
            module.write(slot, weights.get(name))
        self._slots, self._rank = slots, rank

    def clear(self, slot: int) -> None:
        """Empty a slot, also one that was written only in part before memory ran out."""
        for module in self._modules.values():
            if slot < module.a.shape[0]:
                module.write(slot, None)

    def rows(self, slots: Sequence[int]) -> Rows:
        """The rows of a batch, row `i` with the adapter in slot `slots[i]`."""
        return Rows(slots, self._device)

    @contextmanager
    def use(self, rows: Rows) -> Iterator[None]:
        """Let forward passes inside treat their batch's rows so."""
        self._assignment.rows = rows
        try:
            yield
        finally:
            self._assignment.rows = None
