"""The prepared dataset: what `preprocess` writes, training and evaluation read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.card import AdapterCard
from datasets_app.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

PREPROCESS_FILE = "preprocess.json"


class TokenRange(BaseModel):
    """Least, median and most tokens of a part of the samples."""

    min: int
    median: float
    max: int


class Prepared(BaseModel):
    """`preprocess.json`: how the samples are to be shown to the model, and what they are.

    `card` is the card of the adapter to train, without lineage. `none_label` is the router's label for screens
    that no expert is meant for. `tokens` has the ranges of "prompt" (visual tokens included), "completion" (its
    end token included) and "visual". `dataset` is the digest of the dataset that was prepared, `split_seed` the
    seed by which a source dataset was split, and `split` by which rule ("" before there was more than one).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    card: AdapterCard
    none_label: str | None
    counts: dict[str, int]
    tokens: dict[str, TokenRange]
    dataset: str
    split_seed: int | None
    split: str = ""

    @classmethod
    def read(cls, folder: Path) -> Prepared:
        """Read `preprocess.json` of a prepared dataset; InputError if there is none or it is wrong."""
        path = folder / PREPROCESS_FILE
        if not path.is_file():
            raise InputError(
                f"{str(folder)!r} is no prepared dataset: {PREPROCESS_FILE} is missing; preprocess it first."
            )
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{path}, field {field!r}: {first['msg']}.") from error


def load_split(folder: Path, split: str) -> Dataset:
    """The rows of one split, memory-mapped.

    Columns: `id`; `prompt`, `completion` and `images` as TRL reads them; `words`, the user's words; `label`, the
    router's target (None for an expert's data); `answer`, the expert's answer (None where it is not known).
    """
    from datasets import Dataset

    return Dataset.load_from_disk(str(folder / split))
