"""The card: what an adapter was trained with, and must therefore be served with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from datasets_app.errors import InputError
from datasets_app.strict_json import json_object

CARD_FILE = "switchyard.json"
ASSUMED, GIVEN = "assumed", "given"
"""In a lineage, as its `card`: that the files brought none, so that all of it is assumed, or what was not given."""

OWN_CARD = f"The files bring a card, {CARD_FILE}: correct that, or leave out the one that is given."

_MAX_SHOWN = 200
_OF_THE_PREFIX = ("base", "system", "human", "min_pixels", "max_pixels", "invocation")


def prefix_digest(card: Mapping[str, Any]) -> str:
    """Hash of what the base alone reads for an activated adapter, by the JSON of its card; empty for a plain one."""
    if not card.get("invocation"):
        return ""
    text = json.dumps([card.get(name) for name in _OF_THE_PREFIX])
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def share_prefix(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether what the base reads for the one is what it reads for the other, by the JSON of their cards.

    So it is for activated adapters that are shown the same words and pixels, and never for a plain one.
    """
    return bool(prefix_digest(first)) and prefix_digest(first) == prefix_digest(second)


class AdapterCard(BaseModel):
    """Travels inside the adapter's files as `switchyard.json`, so the content hash covers it.

    `system` is the system turn (None: none is sent); `human` the human turn, in which `{prompt}` stands for
    the user's words and `<image>` for the screenshot; `min_pixels` and `max_pixels` bound the screenshot
    after resizing, in pixels; `labels` are the names that a router may answer, in label order; `dtype` is that of the
    base it was trained on (None: not known). `invocation` are the token ids from which on an activated LoRA is at work:
    the base alone reads what comes before them. A plain LoRA, which reads everything itself, has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["router", "expert"]
    base: str = Field(min_length=1)  # fingerprint of the base model's files
    system: str | None = None
    human: str = "<image>\n{prompt}"
    min_pixels: int = Field(gt=0)
    max_pixels: int = Field(gt=0)
    labels: tuple[str, ...] = ()
    invocation: tuple[StrictInt, ...] = ()
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    lineage: dict[str, Any] = Field(default_factory=dict)  # run, dataset hash, package versions

    @property
    def digest(self) -> str:
        """Content hash of all that the adapter is served with; where it comes from does not count."""
        # Without defaults, so that a field of a later release leaves the older cards' digests as they are.
        served = self.model_dump_json(exclude={"lineage"}, exclude_defaults=True)
        return "sha256:" + hashlib.sha256(served.encode()).hexdigest()

    @property
    def in_words(self) -> str:
        """What the adapter is served with."""
        system = "no system turn" if self.system is None else f"the system turn {_shown(self.system)}"
        pixels = f"screenshots of {self.min_pixels} to {self.max_pixels} pixels"
        dtype = f"a base of {self.dtype}" if self.dtype else "a base of whatever dtype"
        return f"{system}, the human turn {_shown(self.human)}, {pixels} and {dtype}"

    @classmethod
    def read(cls, directory: Path) -> AdapterCard:
        """Read the card of the adapter in `directory`; InputError if it is absent or wrong."""
        path = directory / CARD_FILE
        if not path.is_file():
            raise InputError(f"{path} is missing: an adapter needs its card, which training writes.")
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, data: bytes, source: str) -> AdapterCard:
        """The card whose JSON is `data`; InputError naming `source` and the field if it is wrong."""
        fields = json_object(data, source)
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{source}, field {field!r}: {first['msg']}.") from error

    def write(self, directory: Path) -> None:
        """Write the card into `directory`, the same bytes for the same card."""
        (directory / CARD_FILE).write_text(self.model_dump_json(indent=2) + "\n")


def _shown(text: str) -> str:
    return json.dumps(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…", ensure_ascii=False)
