"""The figure by which training stops and the best checkpoint is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from inference.routing.metrics import confusion, macro_f1
from inference.routing.scoring import best
from workers.recipes.training.samples import IGNORED, Samples

TIE_BREAK = 1e-3
"""Weight of the mean confidence within `score`: it decides between checkpoints that are right equally often."""

Validation = Callable[[], dict[str, float]]


def router_validation(samples: Samples, batch_size: int) -> Validation:
    """Macro-F1 of routing `samples`, by the scoring of whole names that also serves."""
    labels = samples.card.labels
    trie = samples.runner.trie(labels)

    def validate() -> dict[str, float]:
        scores = []
        with samples.runner.serving():
            for indices in _batches(len(samples), batch_size):
                words = [samples.words[index] for index in indices]
                scores += samples.runner.route(samples.card, trie, samples.views(indices), words)
        matrix = confusion(labels, samples.targets, [best(row) for row in scores])
        confidence = sum(row[label] for row, label in zip(scores, samples.targets, strict=True)) / len(scores)
        f1 = macro_f1(matrix)
        return {"score": f1 + TIE_BREAK * confidence, "macro_f1": f1, "confidence": confidence}

    return validate


def expert_validation(samples: Samples, batch_size: int) -> Validation:
    """Share of answers that greedy decoding would give exactly.

    Each target is fed to the model at once: if every token is the most likely one behind those before it, greedy
    decoding would have produced just these tokens.
    """

    def validate() -> dict[str, float]:
        exact, confidence = 0, 0.0
        with samples.runner.serving():
            for indices in _batches(len(samples), batch_size):
                inputs = samples.batch(indices)
                labels = inputs.pop("labels")
                longest = int((labels != IGNORED).sum(dim=1).max())
                labels = labels[:, -longest:]
                kept = samples.runner.model(**inputs, logits_to_keep=longest + 1, use_cache=False).logits[:, :-1]
                told = labels != IGNORED
                exact += int(((kept.argmax(dim=-1) == labels) | ~told).all(dim=1).sum())
                chosen = kept.float().softmax(dim=-1).gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0]
                confidence += float((torch.where(told, chosen, 0).sum(dim=1) / told.sum(dim=1)).sum())
        share, confidence = exact / len(samples), confidence / len(samples)
        return {"score": share + TIE_BREAK * confidence, "exact": share, "confidence": confidence}

    return validate


def _batches(count: int, size: int) -> Iterator[Sequence[int]]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
