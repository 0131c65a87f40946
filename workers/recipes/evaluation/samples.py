"""The samples that an evaluation asks about."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from datasets_app.errors import InputError
from datasets_app.formats import routing
from datasets_app.formats.digest import folder_digest
from datasets_app.formats.duplicates import DEFAULT_DISTANCE
from workers.recipes.content import read_content
from workers.recipes.prepared import PREPROCESS_FILE, Prepared, load_split


@dataclass(frozen=True)
class Sample:
    """One question: `image` reads the encoded screenshot, `label` is the right expert, `answer` its right answer."""

    id: str
    words: str
    label: str | None
    answer: str | None
    image: Callable[[], bytes]


@dataclass(frozen=True)
class Questions:
    """The samples of one split. `none_label` marks screens that no expert is meant for; `dataset` is a digest."""

    kind: Literal["router", "expert"]
    labels: tuple[str, ...]
    none_label: str | None
    dataset: str
    samples: list[Sample]


def read_questions(folder: Path, split: str, limit: int | None) -> Questions:
    """Read a split of a prepared dataset or of a routing dataset: all of it, or `limit` samples drawn evenly.

    InputError if the folder is neither, or the split is empty.
    """
    if (folder / PREPROCESS_FILE).is_file():
        questions = _prepared(folder, split, limit)
    elif routing.is_routing(folder):
        questions = _routing(folder, split, limit)
    else:
        raise InputError(f"data: {str(folder)!r} is neither a prepared dataset nor a routing dataset.")
    if not questions.samples:
        raise InputError(f"data: the {split} split of {str(folder)!r} is empty.")
    return questions


def _prepared(folder: Path, split: str, limit: int | None) -> Questions:
    prepared = Prepared.read(folder)
    rows = load_split(folder, split)
    images = rows.select_columns("images").with_format("arrow")

    def image(index: int) -> bytes:
        encoded: bytes = images[index]["images"][0].as_py()[0]["bytes"]
        return encoded

    columns = rows.select_columns(["id", "words", "label", "answer"])
    samples = [Sample(**row, image=partial(image, index)) for index, row in enumerate(columns)]
    card = prepared.card
    return Questions(card.kind, card.labels, prepared.none_label, prepared.dataset, _some(samples, limit))


def _routing(folder: Path, split: str, limit: int | None) -> Questions:
    content = read_content(folder, routing.FORMAT, None, 0, DEFAULT_DISTANCE)
    samples = [
        Sample(example.id, example.words, example.label, example.answer, example.image.read_bytes)
        for example in content.splits[split]
    ]
    return Questions(content.kind, content.labels, content.none_label, folder_digest(folder), _some(samples, limit))


def _some(samples: list[Sample], limit: int | None) -> list[Sample]:
    """The same `limit` samples each time, so that two subjects are asked the same."""
    if limit is None or limit >= len(samples):
        return samples
    chosen = sorted(random.Random(0).sample(range(len(samples)), limit))
    return [samples[index] for index in chosen]
