"""Training samples as the model sees them: the prompt exactly as serving builds it, and the target behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from PIL import Image

from adapters.card import AdapterCard
from datasets_app.formats.pictures import decode
from inference.engines.in_process.batch import View, collate
from inference.engines.in_process.runner import Runner

IGNORED = -100


class Samples:
    """One split of a prepared dataset, for one model.

    The vision tower is frozen, so what it sees in a screenshot is computed once and kept, up to `cache_bytes`.
    """

    def __init__(self, runner: Runner, card: AdapterCard, rows: Dataset, cache_bytes: int) -> None:
        self.card = card
        self.runner = runner
        self.words: list[str] = rows["words"][:]
        self.targets: list[str] = [completion[0]["content"] for completion in rows["completion"]]
        self._encoded = rows.select_columns("images").with_format("arrow")
        self._views: dict[int, View] = {}
        self._room = cache_bytes

    def __len__(self) -> int:
        return len(self.words)

    def views(self, indices: Sequence[int]) -> list[View]:
        """What the vision tower sees in the samples' screenshots."""
        return [self._view(index) for index in indices]

    def target_ids(self, index: int) -> list[int]:
        """Token ids that the adapter should answer, the end token included."""
        return [*self.runner.prompts.name_ids(self.targets[index]), self.runner.end]

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Inputs of one forward pass, padded on the left; `labels` (B, L) are -100 outside the targets."""
        views = self.views(indices)
        targets = [self.target_ids(index) for index in indices]
        sequences = [
            self.runner.prompts.ids(self.card, self.words[index], view.grid) + target
            for index, view, target in zip(indices, views, targets, strict=True)
        ]
        for sequence in sequences:
            self.runner.check_length(sequence, 0)
        collated = collate(self.runner.model, sequences, views, self.runner.prompts.image_token)
        labels = torch.full_like(collated.ids, IGNORED)
        for row, target in enumerate(targets):
            labels[row, -len(target) :] = torch.tensor(target)
        return {
            "input_ids": collated.ids,
            "attention_mask": collated.present.long(),
            "position_ids": collated.positions,
            "mm_encoder_outputs": collated.features,
            "labels": labels,
        }

    def _view(self, index: int) -> View:
        # One screenshot at a time: in a batch its numbers would depend, in the last bits, on its neighbours,
        # and a resumed run, which looks again, would not be exactly the interrupted one.
        if index in self._views:
            return self._views[index]
        with torch.no_grad():
            view = self.runner.look([self._image(index)], self.card)[0]
        size = sum(part.nbytes for part in (view.embeds, *view.deepstack))
        if size <= self._room:
            self._room -= size
            self._views[index] = view
        return view

    def _image(self, index: int) -> Image.Image:
        return decode(self._encoded[index]["images"][0].as_py()[0]["bytes"])
