"""Canaries: what an adapter answered to a few fixed prompts when it was trained, kept with its files.

An engine asks them again before the adapter may serve. So it can tell an adapter that does nothing, other weights
than the trained ones, and a prompt that is built otherwise than in training.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from adapters.card import AdapterCard
from datasets_app.errors import InputError
from datasets_app.strict_json import json_object

CANARY_FILE = "canaries.json"


class Canary(BaseModel):
    """One prompt and the logits behind it: `image` is a PNG in base64, `words` are the user's.

    `tokens` are the ids that the adapter finds most likely, with their `logits`; `difference` is the largest
    difference of any token's logit to the base's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = Field(max_length=100_000)
    words: str = Field(max_length=1_000)
    tokens: tuple[int, ...] = Field(min_length=1, max_length=64)
    logits: tuple[FiniteFloat, ...]
    difference: FiniteFloat = Field(ge=0)

    @property
    def png(self) -> bytes:
        """The screenshot's file."""
        try:
            return base64.b64decode(self.image, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"{CANARY_FILE}, field 'image' is not valid base64.") from error


class Canaries(BaseModel):
    """Travels inside the adapter's files as `canaries.json`, so the content hash covers it.

    `device` ("cpu", "cuda") computed the logits, in the card's dtype; `card` is the card's digest, `template` that of
    the prompt template that base and card make together, `modules` are the adapted modules' short names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    card: str
    template: str
    modules: tuple[str, ...]
    canaries: tuple[Canary, ...] = Field(min_length=1, max_length=4)

    @classmethod
    def parse(cls, data: bytes) -> Canaries:
        """The canaries whose JSON is `data`; InputError naming the field if it is wrong."""
        fields = json_object(data, CANARY_FILE)
        try:
            made = cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{CANARY_FILE}, field {field!r}: {first['msg']}.") from error
        if any(len(canary.tokens) != len(canary.logits) for canary in made.canaries):
            raise InputError(f"{CANARY_FILE}, field 'canaries': each token needs its logit.")
        return made

    @classmethod
    def read(cls, directory: Path) -> Canaries | None:
        """Those in `directory`, None where training left none; InputError as of `parse`."""
        path = directory / CANARY_FILE
        return cls.parse(path.read_bytes()) if path.exists() else None

    def write(self, directory: Path) -> None:
        """Write them into `directory`, the same bytes for the same canaries."""
        (directory / CANARY_FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def check(self, card: AdapterCard, modules: tuple[str, ...]) -> None:
        """InputError unless card and adapted modules are those of the training."""
        missing, unexpected = sorted(set(self.modules) - set(modules)), sorted(set(modules) - set(self.modules))
        if missing:
            raise InputError(
                f"The adapter is truncated: training adapted {', '.join(missing)}, too, whose keys are gone."
            )
        if unexpected:
            raise InputError(f"The adapter has keys of {', '.join(unexpected)}, which training did not adapt.")
        if self.card != card.digest:
            raise InputError(
                "The card has changed since the training: template, pixel budget, labels and dtype travel with the "
                "adapter and are served as they were trained."
            )
