"""What is compared with: PEFT's named adapters on one base, mixed in one batch by `adapter_names`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from adapters.backbone.loading import load_model, load_processor
from adapters.backbone.spec import BaseSpec
from adapters.card import AdapterCard
from datasets_app.formats.pictures import decode
from inference.engines.in_process.prompts import PromptBuilder
from inference.engines.types import Request


class PeftMixed:
    """A base of its own with the adapters of `folders`, by name."""

    def __init__(self, base: BaseSpec, folders: Mapping[str, Path]) -> None:
        (first, folder), *others = folders.items()
        self._model: Any = PeftModel.from_pretrained(load_model(base), folder, adapter_name=first)
        for name, path in others:
            self._model.load_adapter(path, adapter_name=name)
        self._model.eval()
        self._prompts = PromptBuilder(load_processor(base))
        self._cards = {name: AdapterCard.read(path) for name, path in folders.items()}

    def generate(self, requests: Sequence[Request], names: Sequence[str], tokens: int) -> torch.Tensor:
        """So many tokens for every request with its adapter, (requests, prompt + tokens)."""
        ids, pixels = [], []
        for request, name in zip(requests, names, strict=True):
            card = self._cards[name]
            pixels.append(self._prompts.pixels(decode(request.image), card.min_pixels, card.max_pixels))
            ids.append(self._prompts.ids(card, request.prompt, pixels[-1].grid))
        device, length = self._model.device, max(map(len, ids))
        padded = torch.tensor([[0] * (length - len(row)) + row for row in ids], device=device)
        with torch.no_grad():
            answers: torch.Tensor = self._model.generate(
                input_ids=padded,
                attention_mask=(torch.arange(length) >= length - torch.tensor([[len(row)] for row in ids])).to(device),
                mm_token_type_ids=(padded == self._prompts.image_token).int(),
                pixel_values=torch.cat([image.values for image in pixels]).to(device),
                image_grid_thw=torch.cat([image.grid for image in pixels]).to(device),
                adapter_names=list(names),
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
            )
        return answers
