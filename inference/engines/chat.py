"""One adapter asked by itself, as a model of an OpenAI server is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapters.card import AdapterCard
from adapters.stack_spec import AdapterRef
from datasets_app.errors import InputError
from inference.engines.types import Receipt, Request

OWNER = "switchyard"
"""Whose models those of our own server are: it serves adapters as their cards say."""

SLOT = "{prompt}"
MAX_CHOICES = 256
MAX_CHOICE_CHARACTERS = 8_192  # of all choices together: they are read by the model in one pass
_MODEL = re.compile(r"([a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?)@(sha256:[0-9a-f]{64})")


def model_name(adapter: AdapterRef) -> str:
    """`name@sha256:…`, the model by which the adapter version is asked for: it never means another one."""
    return f"{adapter.name}@{adapter.digest}"


def adapter_named(model: str) -> AdapterRef:
    """The adapter version that a model's name means; InputError if it is no such name."""
    match = _MODEL.fullmatch(model)
    if not match or ".." in match[1]:
        raise InputError("An adapter's model name is its name, '@sha256:' and 64 hex digits.")
    return AdapterRef(match[1], match[2])


def check_choices(choices: Sequence[str]) -> None:
    """InputError if they are none, too many, too long or not different."""
    if not 1 <= len(choices) <= MAX_CHOICES or sum(map(len, choices)) > MAX_CHOICE_CHARACTERS:
        raise InputError(f"Give 1 to {MAX_CHOICES} choices of at most {MAX_CHOICE_CHARACTERS} characters together.")
    if len(set(choices)) != len(choices):
        raise InputError("The choices must be different texts.")


@dataclass(frozen=True)
class Text:
    """A part of a prompt: the card's `template`, read as training does, with the user's plain `words` in its slot."""

    template: str
    words: str = ""

    @classmethod
    def of(cls, template: str, text: str) -> Text:
        """`text` as the filled `template`; if it was made from another one, all of it is the user's words."""
        text = text.strip()
        before, slot, after = template.strip().partition(SLOT)
        if not slot and text == before:
            return cls(template)
        if slot and len(text) >= len(before + after) and text.startswith(before) and text.endswith(after):
            return cls(template, text[len(before) : len(text) - len(after)])
        return cls(SLOT, text)

    @property
    def filled(self) -> str:
        """The whole text, without white space around it, as training has it."""
        before, slot, after = self.template.partition(SLOT)
        return (before + (self.words if slot else "") + after).strip()


@dataclass(frozen=True)
class Turns:
    """What an adapter reads: a system text and the user's texts before and after the screenshot, perhaps empty ones."""

    system: Text
    before: Text
    after: Text

    @classmethod
    def of(cls, card: AdapterCard, words: str) -> Turns:
        """As the card has them."""
        before, _, after = card.human.partition("<image>")
        return cls(Text(card.system or ""), Text(before, words), Text(after, words))

    @property
    def wordless(self) -> Turns:
        """The same without the user's words."""
        return Turns(*(replace(text, words="") for text in (self.system, self.before, self.after)))


@dataclass(frozen=True)
class Chat:
    """A screenshot (encoded PNG, JPEG or WEBP) and texts for the adapter that is served as `model`.

    The texts are whole, as a chat's messages have them. `pixels`, if given, are the least and most pixels of the
    screenshot after resizing; they must be those of the adapter's card. `client` and `waited_s` are as a `Request` has
    them.
    """

    model: str
    system: str
    before: str
    after: str
    image: bytes
    max_tokens: int
    pixels: tuple[int, int] | None = None
    client: str = ""
    waited_s: float = 0.0

    def turns(self, card: AdapterCard) -> Turns:
        """The texts, of which the card's own are told from the user's; InputError for other pixels than the card's."""
        if self.pixels not in (None, (card.min_pixels, card.max_pixels)):
            raise InputError(f"{self.model} sees screenshots of {card.min_pixels} to {card.max_pixels} pixels only.")
        own = Turns.of(card, "")
        parts = ((own.system, self.system), (own.before, self.before), (own.after, self.after))
        return Turns(*(Text.of(text.template, said) if said else Text("") for text, said in parts))

    def request(self, turns: Turns) -> Request:
        """The rest of it."""
        words = "".join(text.words for text in (turns.system, turns.before, turns.after))
        return Request(self.model, self.image, words, self.max_tokens)


@dataclass(frozen=True)
class Completion:
    """An adapter's answer: `tokens` without the end token; `finish_reason` is "stop", "length" or "deadline"."""

    text: str
    tokens: int
    finish_reason: str
    prompt_tokens: int
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Token:
    """A token of a choice; the end token is one as well."""

    id: int
    text: str
