"""From an example to the columns of a prepared dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from datasets import Dataset, Features, Image, List, Value
from datasets.arrow_writer import ArrowWriter
from datasets.table import MemoryMappedTable

from adapters.card import AdapterCard
from datasets_app.errors import InputError
from datasets_app.formats.conversation import user_words
from datasets_app.formats.digest import file_digest
from datasets_app.formats.pictures import decode
from datasets_app.formats.records import located
from inference.engines.checks import check_words
from inference.engines.in_process.prompts import PromptBuilder
from workers.recipes.content import Example
from workers.recipes.prepared import TokenRange

_MESSAGES = List({"role": Value("string"), "content": Value("string")})


def write_split(rows: Iterator[dict[str, Any]], features: Features, path: Path) -> Dataset:
    """Write `rows` to the Arrow file `path`, one in memory at a time; the same rows give the same bytes."""
    with ArrowWriter(features=features, path=str(path)) as writer:
        for row in rows:
            writer.write(features.encode_example(row))
        writer.finalize()
    return Dataset(MemoryMappedTable.from_file(str(path)), fingerprint=file_digest(path)[:16])


class Converter:
    """Converts examples for one card, and counts their tokens exactly as training and serving see them."""

    features = Features(
        {
            "id": Value("string"),
            "prompt": _MESSAGES,
            "completion": _MESSAGES,
            "images": List(Image()),
            "words": Value("string"),
            "label": Value("string"),
            "answer": Value("string"),
        }
    )

    def __init__(self, processor: Any, card: AdapterCard) -> None:
        self._builder = PromptBuilder(processor)
        self._builder.check_budget(card)
        self._card = card
        self._longest = int(processor.tokenizer.model_max_length)
        self._control = frozenset(processor.tokenizer.all_special_ids)
        self._merged_patches = processor.image_processor.merge_size**2
        self._counts: dict[str, list[int]] = {"prompt": [], "completion": [], "visual": []}

    @property
    def done(self) -> int:
        """How many examples were converted."""
        return len(self._counts["prompt"])

    def row(self, example: Example) -> dict[str, Any]:
        """The columns of one example; InputError naming its file and line if the model cannot be shown it."""
        with located(example.file, example.line):
            encoded = example.image.read_bytes()
            self._count(example, encoded)
        system = self._card.system
        human = user_words(self._card.human).replace("{prompt}", example.words)
        return {
            "id": example.id,
            "prompt": [
                *([{"role": "system", "content": system}] if system else []),
                {"role": "user", "content": human},
            ],
            "completion": [{"role": "assistant", "content": example.target}],
            "images": [{"bytes": encoded, "path": None}],
            "words": example.words,
            "label": example.label,
            "answer": example.answer,
        }

    def tokens(self) -> dict[str, TokenRange]:
        """Ranges over all examples converted so far."""
        return {
            part: TokenRange(min=min(counts), median=median(counts), max=max(counts))
            for part, counts in self._counts.items()
        }

    def _count(self, example: Example, encoded: bytes) -> None:
        check_words(example.words)
        pixels = self._builder.pixels(decode(encoded), self._card.min_pixels, self._card.max_pixels)
        completion = self._builder.name_ids(example.target)
        if self._control & set(completion):
            raise InputError("the answer holds one of the model's control tokens.")
        visual = int(pixels.grid.prod()) // self._merged_patches
        prompt = self._builder.ids(self._card, example.words, pixels.grid)
        if prompt.count(self._builder.image_token) != visual:
            raise InputError("the prompt's image placeholders do not match its image.")
        if len(prompt) + len(completion) >= self._longest:
            raise InputError(f"the sample has more than the {self._longest} tokens that the model takes.")
        self._counts["prompt"].append(len(prompt))
        self._counts["completion"].append(len(completion) + 1)
        self._counts["visual"].append(visual)
