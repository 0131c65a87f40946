"""The model's maths, whatever adapters are at work: scoring names in one pass, prompts, and greedy decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from inference.engines.in_process.batch import Batch
from inference.engines.in_process.keys_values import KeysValues
from inference.routing.trie import NameTrie


def name_log_likelihoods(model: Any, batch: Batch, tries: Sequence[NameTrie]) -> list[torch.Tensor]:
    """For every row, the log-likelihood of each name of its trie as the answer: (names,), float32.

    One forward pass over prompts and packed names. A name's tokens see the prompt and the tokens that they
    continue, at the positions they would have if the name were alone.
    """
    device, longest = batch.ids.device, max(len(trie.ids) for trie in tries)
    distinct = {id(trie): _Tail(trie, longest, device) for trie in tries}
    tails = [distinct[id(trie)] for trie in tries]
    ids = torch.cat([batch.ids, torch.stack([tail.ids for tail in tails])], dim=1)
    behind = batch.next_position + torch.stack([tail.depths for tail in tails])
    positions = torch.cat([batch.positions, behind.expand(3, -1, -1)], dim=2)

    logits = model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=_mask(batch, torch.stack([tail.visible for tail in tails]), model.dtype),
        mm_encoder_outputs=batch.features,
        past_key_values=batch.past and batch.past.cache,
        logits_to_keep=longest + 1,
        use_cache=batch.past is not None,
    ).logits
    return [tail.likelihoods(row) for tail, row in zip(tails, logits, strict=True)]


def _mask(batch: Batch, visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The additive mask (B, 1, queries, keys) of a pass over a batch and tails behind it, `visible` (B, T, T)."""
    (count, length), tail, device = batch.ids.shape, visible.shape[1], batch.ids.device
    present = batch.present if batch.past is None else torch.cat([batch.past.present, batch.present], dim=1)
    before = present.shape[1] - length
    allowed = torch.zeros(count, length + tail, before + length + tail, dtype=torch.bool, device=device)
    causal = torch.ones(length, before + length, dtype=torch.bool, device=device).tril(before)
    allowed[:, :length, : before + length] = causal & present[:, None, :]
    allowed[:, length:, : before + length] = present[:, None, :]
    allowed[:, length:, before + length :] = visible
    # Padding sees itself: a row that sees nothing becomes NaN.
    allowed.diagonal(before, dim1=1, dim2=2).fill_(True)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


class _Tail:
    """A trie as tensors, padded to `length` tokens that nobody sees and that see themselves."""

    def __init__(self, trie: NameTrie, length: int, device: torch.device) -> None:
        own = len(trie.ids)
        self.ids, self.depths = torch.zeros(2, length, dtype=torch.long, device=device)
        self.ids[:own], self.depths[:own] = torch.tensor([trie.ids, trie.depths], device=device)
        self.visible = torch.zeros(length, length, dtype=torch.bool, device=device)
        self.visible[:own, :own] = torch.tensor(trie.visible(), device=device).view(own, own)
        steps = [(row, token, name) for name, path in enumerate(trie.paths) for row, token in path]
        self._rows, self._tokens, self._names = torch.tensor(steps, device=device).unbind(1)
        self._count = len(trie.paths)

    def likelihoods(self, logits: torch.Tensor) -> torch.Tensor:
        """From the logits behind the prompt and behind each token of the tail, (1 + length, words)."""
        logits = logits.float()
        scores = logits[self._rows, self._tokens] - logits.logsumexp(dim=-1)[self._rows]
        return scores.new_zeros(self._count).index_add_(0, self._names, scores)


@dataclass
class Prefilled:
    """What decoding continues from: the prompts' keys and values, and the logits behind them (rows, words)."""

    cache: DynamicCache
    logits: torch.Tensor


def prefill(model: Any, batch: Batch) -> Prefilled:
    """Run the prompts, or what continues a past."""
    if batch.past is None:
        cache, mask = DynamicCache(config=model.config.get_text_config()), batch.present
    else:
        cache, mask = batch.past.cache, _mask(batch, batch.present.new_zeros(len(batch.ids), 0, 0), model.dtype)
    logits = model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        attention_mask=mask,
        mm_encoder_outputs=batch.features,
        past_key_values=cache,
        logits_to_keep=1,
        use_cache=True,
    ).logits
    return Prefilled(cache, logits[:, -1])


def step(model: Any, tokens: Sequence[int], positions: Sequence[int], kept: KeysValues) -> torch.Tensor:
    """Feed one token a row, at these mrope positions; the logits behind them (rows, words)."""
    device = model.device
    logits: torch.Tensor = model(
        input_ids=torch.tensor(tokens, device=device)[:, None],
        position_ids=torch.tensor(positions, device=device)[:, None].expand(3, -1, -1),
        attention_mask=kept.begin(device, model.dtype),
        past_key_values=kept,
        use_cache=True,
    ).logits
    kept.finish()
    return logits[:, -1]


def choose(logits: torch.Tensor) -> list[int | None]:
    """The most likely token of each row; None where the logits are no numbers."""
    highest, tokens = logits.max(dim=-1)
    pairs = zip(highest.isfinite().tolist(), tokens.tolist(), strict=True)
    return [token if finite else None for finite, token in pairs]
