"""Routing and answering many samples with the adapter that is active, on a model that is already loaded.

The engine, the evaluation of a router alone and a trainer's metric all run these same steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from adapters.card import AdapterCard
from datasets_app.errors import InputError
from inference.engines.base import EngineError
from inference.engines.in_process.batch import View, collate, look
from inference.engines.in_process.clock import Clock
from inference.engines.in_process.passes import Answer, decode, name_log_likelihoods, prefill
from inference.engines.in_process.prompts import PromptBuilder
from inference.routing.scoring import probabilities
from inference.routing.trie import NameTrie


class Runner:
    """A loaded `Qwen3VLForConditionalGeneration` (or a PEFT model around one) and its processor."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.prompts = PromptBuilder(processor)
        attention = self.model.config.get_text_config()._attn_implementation
        if attention not in ("sdpa", "eager"):
            raise EngineError(f"Routing needs a free attention mask, which {attention!r} lacks: use 'sdpa'.")
        self.end: int = processor.tokenizer.eos_token_id
        configured = self.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        self._tries: dict[tuple[str, ...], NameTrie] = {}
        self.ends = frozenset({self.end, *(end for end in ends if end is not None)})

    def trie(self, labels: Sequence[str]) -> NameTrie:
        """The labels as the router answers them; InputError if two have the same tokens."""
        key = tuple(labels)
        try:
            if key not in self._tries:
                self._tries[key] = NameTrie.build([self.prompts.name_ids(label) for label in key], self.end)
            return self._tries[key]
        except ValueError as error:
            raise InputError(f"The labels cannot be told apart: {error}") from error

    def look(self, images: Sequence[Image.Image], card: AdapterCard, clock: Clock) -> list[View]:
        """What the vision tower sees in the images within the card's pixel budget."""
        with clock.stage("preprocess"):
            pixels = [self.prompts.pixels(image, card.min_pixels, card.max_pixels) for image in images]
        with clock.stage("vision"):
            return look(self.model, pixels)

    def route(
        self, card: AdapterCard, trie: NameTrie, views: Sequence[View], words: Sequence[str], clock: Clock
    ) -> list[dict[str, float]]:
        """The probability of each of the card's labels, for every sample."""
        with clock.stage("preprocess"):
            ids = [self.prompts.ids(card, text, view.grid) for text, view in zip(words, views, strict=True)]
            batch = collate(self.model, ids, views, self.prompts.image_token)
        with clock.stage("route"):
            scores = name_log_likelihoods(self.model, batch, trie).tolist()
        return [probabilities(dict(zip(card.labels, row, strict=True))) for row in scores]

    def generate(
        self,
        card: AdapterCard,
        views: Sequence[View],
        words: Sequence[str],
        limits: Sequence[int],
        clock: Clock,
    ) -> list[Answer]:
        """Answer every sample greedily, with at most `limits[i]` tokens."""
        with clock.stage("preprocess"):
            ids = [self.prompts.ids(card, text, view.grid) for text, view in zip(words, views, strict=True)]
            batch = collate(self.model, ids, views, self.prompts.image_token)
        with clock.stage("prefill"):
            prefilled = prefill(self.model, batch)
        with clock.stage("decode"):
            return decode(self.model, batch, prefilled, limits, self.ends)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Evaluation mode without gradients; a model that was training trains on afterwards."""
        training = self.model.training
        if training:
            self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            if training:
                self.model.train()


def route_scores(
    model: Any,
    processor: Any,
    card: AdapterCard,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    batch_size: int = 8,
) -> list[dict[str, float]]:
    """The active adapter's probability of each of `card.labels`, for every image with its prompt.

    `model` is a Qwen3-VL, or a PEFT model around one with the router active, as a trainer holds it.
    """
    runner = Runner(model, processor)
    trie = runner.trie(card.labels)
    scores: list[dict[str, float]] = []
    with runner.serving():
        for start in range(0, len(images), batch_size):
            views = runner.look(images[start : start + batch_size], card, Clock())
            scores += runner.route(card, trie, views, prompts[start : start + batch_size], Clock())
    return scores


def generate_batch(
    model: Any,
    processor: Any,
    card: AdapterCard,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    max_tokens: int = 128,
    batch_size: int = 8,
) -> list[str]:
    """The active adapter's greedy answer, as text, for every image with its prompt."""
    runner = Runner(model, processor)
    texts: list[str] = []
    with runner.serving():
        for start in range(0, len(images), batch_size):
            chunk = prompts[start : start + batch_size]
            views = runner.look(images[start : start + batch_size], card, Clock())
            answers = runner.generate(card, views, chunk, [max_tokens] * len(chunk), Clock())
            texts += [runner.prompts.text(answer.ids) for answer in answers]
    return texts
