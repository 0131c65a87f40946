"""A loaded model and its processor, and routing and answering with whatever adapter is active in it.

A trainer's metric runs these steps; the engine runs the same ones for batches of mixed adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from PIL import Image

from adapters.card import AdapterCard
from datasets_app.errors import InputError
from inference.engines.base import EngineError
from inference.engines.in_process.activation import activated
from inference.engines.in_process.batch import Batch, View, collate, look
from inference.engines.in_process.keys_values import KeysValues
from inference.engines.in_process.passes import choose, name_log_likelihoods, prefill, step
from inference.engines.in_process.prompts import PromptBuilder
from inference.routing.scoring import probabilities
from inference.routing.trie import NameTrie

TRIES = 64  # sets of labels that are kept packed


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
        self._trie = lru_cache(TRIES)(self._packed)
        self.ends = frozenset({self.end, *(end for end in ends if end is not None)})

    @property
    def context(self) -> int:
        """How many tokens the base attends to, prompt and answer together."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    @property
    def dtype(self) -> str:
        """In which precision the model computes: "float32", "bfloat16" or "float16"."""
        return str(self.model.dtype).removeprefix("torch.")

    def check(self, card: AdapterCard) -> None:
        """InputError unless this model can serve the card as it was trained: in its dtype and pixel budget."""
        if card.dtype not in (None, self.dtype):
            raise InputError(
                f"The adapter was trained in {card.dtype}, but this model computes in {self.dtype}: "
                "serve in the dtype of the training, or train again."
            )
        if card.invocation not in ((), self.prompts.opening):
            raise InputError(
                f"The adapter is invoked by tokens {list(card.invocation)}; on this base an activated adapter is "
                f"invoked by those that begin the answer: {list(self.prompts.opening)}."
            )
        self.prompts.check_budget(card)
        if self.prompts.tokens_of(card.max_pixels) >= self.context:
            raise InputError(
                f"max_pixels is {card.max_pixels}: more than the base's context of {self.context} tokens holds."
            )
        tokens = self.prompts.tokens_of(card.max_pixels) + self.prompts.card_tokens(card)
        if tokens >= self.context:
            raise InputError(
                f"The card's texts and a screenshot of max_pixels take {tokens} tokens: "
                f"more than the base's context of {self.context} holds."
            )

    def check_length(self, prompt: Sequence[int], answer: int) -> None:
        """InputError unless the base can attend to the prompt and that many tokens more."""
        if len(prompt) + answer > self.context:
            raise InputError(
                f"The prompt has {len(prompt)} tokens and its answer may have {answer}: "
                f"more than the base's context of {self.context} holds."
            )

    def trie(self, labels: Sequence[str]) -> NameTrie:
        """The labels as the router answers them; InputError if two have the same tokens."""
        return self._trie(tuple(labels))

    def _packed(self, labels: tuple[str, ...]) -> NameTrie:
        try:
            return NameTrie.build([self.prompts.name_ids(label) for label in labels], self.end)
        except ValueError as error:
            raise InputError(f"The labels cannot be told apart: {error}") from error

    def look(self, images: Sequence[Image.Image], card: AdapterCard) -> list[View]:
        """What the vision tower sees in the images within the card's pixel budget."""
        return look(self.model, [self.prompts.pixels(image, card.min_pixels, card.max_pixels) for image in images])

    def route(
        self, card: AdapterCard, trie: NameTrie, views: Sequence[View], words: Sequence[str]
    ) -> list[dict[str, float]]:
        """The probability of each of the card's labels, for every sample."""
        batch = self.collate([self.ids(card, text, view) for text, view in zip(words, views, strict=True)], views)
        rows = name_log_likelihoods(self.model, batch, [trie] * len(views))
        return [probabilities(dict(zip(card.labels, row.tolist(), strict=True))) for row in rows]

    def ids(self, card: AdapterCard, words: str, view: View) -> list[int]:
        """Token ids of the prompt."""
        return self.prompts.ids(card, words, view.grid)

    def collate(self, prompts: Sequence[list[int]], views: Sequence[View]) -> Batch:
        """The prompts as one batch; prompt `i` shows view `i`. InputError for one that the base cannot attend to."""
        for prompt in prompts:
            self.check_length(prompt, 0)
        return collate(self.model, prompts, views, self.prompts.image_token)

    def generate(self, card: AdapterCard, views: Sequence[View], words: Sequence[str], limit: int) -> list[str]:
        """Answer every sample greedily, with at most `limit` tokens."""
        batch = self.collate([self.ids(card, text, view) for text, view in zip(words, views, strict=True)], views)
        prefilled, kept = prefill(self.model, batch), KeysValues()
        for row, length in enumerate(batch.present.sum(dim=1).tolist()):
            kept.join(prefilled.cache, row, length)
        answers: list[list[int]] = [[] for _ in views]
        going, logits, positions = set(range(len(views))), prefilled.logits, batch.next_position[:, 0].tolist()
        for number in range(limit):
            tokens = [token or 0 for token in choose(logits)]
            going -= {row for row in going if tokens[row] in self.ends}
            for row in going:
                answers[row].append(tokens[row])
            if not going or number == limit - 1:
                break
            logits = step(self.model, tokens, [position + number for position in positions], kept)
        return [self.prompts.text(answer) for answer in answers]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Evaluation mode without gradients; a model that was training trains on afterwards.

        An activated adapter of a PEFT model is at work from its invocation on, as when that itself is called.
        """
        training = self.model.training
        if training:
            self.model.eval()
        try:
            with torch.no_grad(), activated(self.model):
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
            views = runner.look(images[start : start + batch_size], card)
            scores += runner.route(card, trie, views, prompts[start : start + batch_size])
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
            views = runner.look(images[start : start + batch_size], card)
            texts += runner.generate(card, views, prompts[start : start + batch_size], max_tokens)
    return texts
