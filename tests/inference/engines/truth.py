"""What a fresh base with one adapter answers, by PEFT's own passes and `generate`: the truth for every path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from adapters.card import AdapterCard
from datasets_app.formats.pictures import decode
from inference.engines.in_process.prompts import PromptBuilder
from inference.engines.types import Request, StackSpec
from inference.routing.scoring import best
from tests.inference.engines.small import make_model


class Truth:
    """Fresh bases, one for each adapter folder that is asked for, which read every prompt whole and alone."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._prompts = PromptBuilder(processor)
        self._models: dict[Path, Any] = {}
        self._scored: dict[tuple[Path, Request], dict[str, float]] = {}
        self._said: dict[tuple[Path, Request], str] = {}

    def model(self, folder: Path) -> Any:
        """PEFT's model of a fresh base with this adapter."""
        if folder not in self._models:
            self._models[folder] = PeftModel.from_pretrained(make_model(self._processor), folder).eval()
        return self._models[folder]

    def inputs(self, folder: Path, request: Request) -> dict[str, torch.Tensor]:
        """What the model is given for the request, as the adapter's card words and scales it."""
        card = AdapterCard.read(folder)
        pixels = self._prompts.pixels(decode(request.image), card.min_pixels, card.max_pixels)
        ids = torch.tensor([self._prompts.ids(card, request.prompt, pixels.grid)])
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == self._prompts.image_token).int(),
            "pixel_values": pixels.values,
            "image_grid_thw": pixels.grid,
        }

    @torch.no_grad()
    def scores(self, router: Path, request: Request) -> dict[str, float]:
        """The probability of each label, by one whole forward pass for each."""
        if (router, request) not in self._scored:
            labels = AdapterCard.read(router).labels
            likelihoods = torch.stack([self._likelihood(router, request, label, labels) for label in labels])
            self._scored[router, request] = dict(zip(labels, likelihoods.softmax(0).tolist(), strict=True))
        return self._scored[router, request]

    def route(self, router: Path, request: Request) -> str:
        """The label that the router names."""
        return best(self.scores(router, request))

    @torch.no_grad()
    def answer(self, expert: Path, request: Request) -> str:
        """The expert's answer."""
        if (expert, request) not in self._said:
            inputs, end = self.inputs(expert, request), self._processor.tokenizer.eos_token_id
            out = self.model(expert).generate(**inputs, max_new_tokens=request.max_tokens, do_sample=False)
            ids = out[0, inputs["input_ids"].shape[1] :].tolist()
            self._said[expert, request] = self._prompts.text([token for token in ids if token != end])
        return self._said[expert, request]

    def stacked(self, stack: StackSpec, request: Request, folders: Mapping[str, Path]) -> tuple[str, str]:
        """The label of the stack's router, and what the expert of that name answers; `folders` by digest."""
        label = self.route(folders[stack.router.digest], request)
        digests = {expert.name: expert.digest for expert in stack.experts}
        return label, "" if label == "none" else self.answer(folders[digests[label]], request)

    def _likelihood(self, router: Path, request: Request, label: str, labels: Sequence[str]) -> torch.Tensor:
        inputs, ids = self.inputs(router, request), self._prompts.name_ids(label)
        continued = any(self._prompts.name_ids(other)[: len(ids)] == ids for other in labels if other != label)
        tail = torch.tensor([ids + [self._processor.tokenizer.eos_token_id] * continued])
        whole = inputs | {
            "input_ids": torch.cat([inputs["input_ids"], tail], 1),
            "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(tail)], 1),
            "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tail)], 1),
        }
        logits = self.model(router)(**whole).logits[0, -tail.shape[1] - 1 : -1].log_softmax(-1)
        return logits[range(tail.shape[1]), tail[0]].sum()
