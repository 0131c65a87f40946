"""Samples that an adapter was trained on, which say nothing of how it does on others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from datasets_app.errors import InputError
from workers.recipes.evaluation.samples import Questions
from workers.recipes.prepared import load_split

TRAINED = ("train", "val")  # validation chooses the weights that are kept


def leave_out_trained(questions: Questions, prepared: Sequence[Path]) -> tuple[Questions, int]:
    """The questions without the screenshots in the training and validation sides of `prepared`, and how many went.

    A screenshot is told by its file's content, whatever its sample is called. InputError if none remains.
    """
    known = {content for folder in prepared for side in TRAINED for content in _contents(folder, side)}
    if not known:
        return questions, 0
    unseen = [sample for sample in questions.samples if _content(sample.image()) not in known]
    if not unseen:
        raise InputError("data: the adapter was trained on every sample of it; evaluate it on another dataset.")
    return replace(questions, samples=unseen), len(questions.samples) - len(unseen)


def _contents(folder: Path, side: str) -> Iterator[bytes]:
    rows = load_split(folder, side).select_columns("images").with_format("arrow")
    for batch in rows.iter(batch_size=64):
        for images in batch["images"]:
            yield from (_content(image["bytes"]) for image in images.as_py())


def _content(encoded: bytes) -> bytes:
    return hashlib.sha256(encoded).digest()
