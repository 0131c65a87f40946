"""Prompts up to an activated adapter's invocation: read once by the base alone, continued by any such adapter.

A plain LoRA changes the keys and values of every token, so it must read its prompt itself: continued from the base's,
it gives wrong tokens and no error. Nothing but a `Continuation` leads to a pass on a prefix, and none can be made for
a plain adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from adapters.card import AdapterCard
from inference.engines.base import EngineError
from inference.engines.in_process.batch import Batch, Past, View
from inference.engines.in_process.lora import NO_ADAPTER, LoraSlots
from inference.engines.in_process.passes import prefill
from inference.engines.in_process.runner import Runner


@dataclass(frozen=True)
class Prefix:
    """What attention remembers of `ids` and `view`, read without any adapter: a layer's keys and values each are
    (1, heads, tokens, head size). `next_position` is where the next token stands, as mrope counts.
    """

    ids: list[int]
    view: View
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    next_position: int


@dataclass(frozen=True)
class Continuation:
    """A prompt of the activated adapter with this card, of which the base has read the prefix.

    EngineError for the card of a plain adapter, and for the prefix of another prompt.
    """

    card: AdapterCard
    prompt: list[int]
    prefix: Prefix

    def __post_init__(self) -> None:
        if self.prefix.ids != self.prompt[: invoked_at(self.card, self.prompt)]:
            raise EngineError("The prompt does not begin with the prefix that the base has read.")

    @property
    def rest(self) -> list[int]:
        """What the adapter reads behind the prefix: its invocation."""
        return self.prompt[len(self.prefix.ids) :]


def invoked_at(card: AdapterCard, prompt: Sequence[int]) -> int:
    """Where in the prompt the adapter begins to work; EngineError for a plain one, which works from the first token."""
    start = len(prompt) - len(card.invocation)
    if not card.invocation:
        raise EngineError("A plain LoRA must read its whole prompt itself; only an activated one continues the base's.")
    if tuple(prompt[start:]) != card.invocation:
        raise EngineError("The prompt does not end with the adapter's invocation.")
    return start


def read(runner: Runner, slots: LoraSlots, prompts: Sequence[list[int]], views: Sequence[View]) -> list[Prefix]:
    """Let the base alone read the beginnings of prompts, in one pass whose keys and values the prefixes share."""
    batch = runner.collate(prompts, views)
    with slots.use(slots.rows([NO_ADAPTER] * len(prompts))):
        layers: Any = prefill(runner.model, batch).cache.layers
    positions = batch.next_position[:, 0].tolist()
    return [
        Prefix(
            ids,
            view,
            [layer.keys[row : row + 1, :, -len(ids) :] for layer in layers],
            [layer.values[row : row + 1, :, -len(ids) :] for layer in layers],
            positions[row],
        )
        for row, (ids, view) in enumerate(zip(prompts, views, strict=True))
    ]


def join(continuations: Sequence[Continuation], device: torch.device) -> Batch:
    """The continuations side by side, their prefixes padded on the left; all rests have the same length."""
    prefixes = [continuation.prefix for continuation in continuations]
    lengths = torch.tensor([len(prefix.ids) for prefix in prefixes], device=device)
    longest = max(len(prefix.ids) for prefix in prefixes)
    layers = zip(
        *(zip(prefix.keys, prefix.values, strict=True) for prefix in prefixes),
        strict=True,
    )
    cache = DynamicCache(
        [tuple(_side_by_side(parts, longest) for parts in zip(*layer, strict=True)) for layer in layers]
    )
    ids = torch.tensor([continuation.rest for continuation in continuations], device=device)
    starts = torch.tensor([prefix.next_position for prefix in prefixes], device=device)[:, None]
    return Batch(
        ids=ids,
        present=torch.ones_like(ids, dtype=torch.bool),
        positions=(starts + torch.arange(ids.shape[1], device=device)).expand(3, -1, -1),
        next_position=starts + ids.shape[1],
        features=None,
        past=Past(cache, torch.arange(longest, device=device) >= longest - lengths[:, None]),
    )


def _side_by_side(parts: Sequence[torch.Tensor], length: int) -> torch.Tensor:
    """(1, heads, tokens, head size) each, as one batch of that length; zeros on the left, as NaN would spread."""
    if len(parts) == 1:
        return parts[0]
    shape = parts[0].shape
    out = parts[0].new_zeros(len(parts), shape[1], length, shape[3])
    for row, part in enumerate(parts):
        out[row, :, length - part.shape[2] :] = part[0]
    return out
