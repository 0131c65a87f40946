"""The model's maths, with the adapter that is active: scoring names in one pass, and greedy decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from inference.engines.in_process.batch import Batch
from inference.routing.trie import NameTrie


def name_log_likelihoods(model: Any, batch: Batch, trie: NameTrie) -> torch.Tensor:
    """The log-likelihood of every name of `trie` as the whole answer: (B, names), float32.

    One forward pass over prompt and packed names. A name's tokens see the prompt and the tokens that they
    continue, at the positions they would have if the name were alone.
    """
    count, length = batch.ids.shape
    device, tail = batch.ids.device, len(trie.ids)
    ids = torch.cat([batch.ids, torch.tensor([trie.ids], device=device).expand(count, -1)], dim=1)
    behind = batch.next_position + torch.tensor([trie.depths], device=device)
    positions = torch.cat([batch.positions, behind.expand(3, -1, -1)], dim=2)

    allowed = torch.zeros(count, length + tail, length + tail, dtype=torch.bool, device=device)
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    allowed[:, :length, :length] = causal & batch.present[:, None, :]
    allowed[:, length:, :length] = batch.present[:, None, :]
    allowed[:, length:, length:] = torch.tensor(trie.visible(), device=device)
    allowed.diagonal(dim1=1, dim2=2).fill_(True)  # Padding sees itself: a row that sees nothing becomes NaN.
    mask = torch.zeros(allowed.shape, dtype=model.dtype, device=device)
    mask.masked_fill_(~allowed, torch.finfo(model.dtype).min)

    logits = model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask[:, None],
        mm_encoder_outputs=batch.features,
        logits_to_keep=tail + 1,
        use_cache=False,
    ).logits
    token_scores = logits.float().log_softmax(dim=-1)
    return torch.stack(
        [token_scores[:, [row for row, _ in path], [token for _, token in path]].sum(dim=-1) for path in trie.paths],
        dim=1,
    )


@dataclass(frozen=True)
class Answer:
    """Generated ids without the end token; `finish_reason` is "stop", or "length" at the limit."""

    ids: list[int]
    finish_reason: str


@dataclass
class Prefilled:
    """What decoding continues from: the prompts' keys and values, and the logits behind them (B, words)."""

    cache: DynamicCache
    logits: torch.Tensor


def prefill(model: Any, batch: Batch) -> Prefilled:
    """Run the prompts."""
    cache = DynamicCache(config=model.config.get_text_config())
    logits = model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        attention_mask=batch.present,
        mm_encoder_outputs=batch.features,
        past_key_values=cache,
        logits_to_keep=1,
        use_cache=True,
    ).logits
    return Prefilled(cache, logits[:, -1])


def decode(model: Any, batch: Batch, prefilled: Prefilled, limits: Sequence[int], ends: frozenset[int]) -> list[Answer]:
    """Greedy decoding, at most `limits[i]` tokens for prompt `i`, until it answers one of the `ends`."""
    answers: list[list[int]] = [[] for _ in limits]
    reasons: list[str | None] = [None] * len(limits)
    logits, present = prefilled.logits, batch.present
    for step in range(max(limits)):
        tokens = logits.argmax(dim=-1)
        for i, token in enumerate(tokens.tolist()):
            if reasons[i] is None and token in ends:
                reasons[i] = "stop"
            elif reasons[i] is None:
                answers[i].append(token)
                reasons[i] = "length" if len(answers[i]) >= limits[i] else None
        if all(reasons):
            break
        present = torch.cat([present, present.new_ones(len(limits), 1)], dim=1)
        logits = model(
            input_ids=tokens[:, None],
            position_ids=(batch.next_position + step).expand(3, -1, -1),
            attention_mask=present,
            past_key_values=prefilled.cache,
            use_cache=True,
        ).logits[:, -1]
    return [Answer(ids, reason or "length") for ids, reason in zip(answers, reasons, strict=True)]
