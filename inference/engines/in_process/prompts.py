"""From a card, a screenshot and the user's words to token ids, with the words kept plain text."""

from __future__ import annotations

import hashlib
import math
import re
import threading
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from PIL import Image

from adapters.card import AdapterCard
from datasets_app.errors import InputError
from inference.engines.chat import SLOT, Text, Turns

_BEFORE, _AFTER, _SYSTEM = "\ue000before\ue000", "\ue000after\ue000", "\ue000system\ue000"
_MARKS = re.compile(f"({_BEFORE}|{_AFTER}|{_SYSTEM})")


@dataclass(frozen=True)
class Pixels:
    """A preprocessed image: `values` (patches, values of one), `grid` (1, 3): frames, rows, columns."""

    values: torch.Tensor
    grid: torch.Tensor


class PromptBuilder:
    """Builds prompts with one processor (a `Qwen3VLProcessor`).

    Any thread may call: its image processor keeps nothing between two calls, and the other half has a lock.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._writing = threading.RLock()
        self._frames: dict[tuple[bool, bool, bool], str] = {}
        self.image_token: int = processor.image_token_id
        self._added: dict[str, int] = self._tokenizer.get_added_vocab()
        self._merged_patches: int = processor.image_processor.merge_size**2
        self._tile: int = processor.image_processor.patch_size * processor.image_processor.merge_size  # pixels a side
        longest_first = sorted(map(re.escape, self._added), key=len, reverse=True)
        self.opening: tuple[int, ...] = self._opening()
        self._added_pattern = re.compile(f"(?=({'|'.join(longest_first)}))")

    def check_budget(self, card: AdapterCard) -> None:
        """InputError unless the processor, which cuts screenshots into tiles, can keep to the card's budget."""
        area = self._tile**2
        for field in ("min_pixels", "max_pixels"):
            if getattr(card, field) % area:
                raise InputError(f"{field} is {getattr(card, field)}: the base's processor needs a multiple of {area}.")

    def tokens_of(self, pixels: int) -> int:
        """How many tokens a screenshot of so many pixels takes."""
        return pixels // self._tile**2

    def card_tokens(self, card: AdapterCard) -> int:
        """How many tokens every prompt of the card has, without screenshot and words."""
        merge = math.isqrt(self._merged_patches)
        return len(self.turns_ids(Turns.of(card, ""), torch.tensor([[1, merge, merge]]))) - 1

    def template(self, card: AdapterCard) -> str:
        """Digest of the base's chat template with the card's texts in it, neither screenshot nor words filled in."""
        turns = Turns.of(card, "")
        texts = {_BEFORE: turns.before.template, _AFTER: turns.after.template, _SYSTEM: turns.system.template}
        with self._writing:
            pieces = _MARKS.split(self._frame(turns))
        return "sha256:" + hashlib.sha256("".join(texts.get(piece, piece) for piece in pieces).encode()).hexdigest()

    def pixels(self, image: Image.Image, min_pixels: int, max_pixels: int) -> Pixels:
        """Resize the image into the pixel budget, keeping its shape, and cut it into patches."""
        size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
        batch = self._processor.image_processor(images=[image], size=size, return_tensors="pt")
        return Pixels(batch["pixel_values"], batch["image_grid_thw"])

    def ids(self, card: AdapterCard, words: str, grid: torch.Tensor) -> list[int]:
        """Token ids of the whole prompt, up to where the answer begins.

        The card's texts are tokenised as training does; in the user's words, nothing becomes an added token:
        the added tokens, image placeholders among them, are exactly those of the prompt without words.
        """
        return self.turns_ids(Turns.of(card, words), grid)

    def turns_ids(self, turns: Turns, grid: torch.Tensor) -> list[int]:
        """The same for texts that need not be a card's."""
        with self._writing:
            ids, wordless = self._assemble(turns, grid), turns.wordless
            if turns != wordless and self._structure(ids) != self._structure(self._assemble(wordless, grid)):
                raise InputError("The prompt cannot be told apart from control tokens: reword it.")
            return ids

    def name_ids(self, name: str) -> list[int]:
        """Token ids of an adapter's name as the router answers it, without the end token."""
        with self._writing:
            return self._encode(name)

    def choice_ids(self, choice: str) -> list[int]:
        """The same for what a stranger would have answered; InputError if it holds an added token."""
        with self._writing:
            ids = self._encode(choice)
            if self._structure(ids):
                raise InputError("A choice holds a control token.")
            return ids

    def text(self, ids: list[int]) -> str:
        """The text of generated ids."""
        with self._writing:
            return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _opening(self) -> tuple[int, ...]:
        """Ids of the tokens that every prompt ends with: they begin the answer, and invoke an activated adapter."""
        message = [{"role": "user", "content": [{"type": "image"}]}]
        turn, whole = (
            self._processor.apply_chat_template(message, tokenize=False, add_generation_prompt=answer)
            for answer in (False, True)
        )
        return tuple(self._encode(whole.removeprefix(turn))) if whole.startswith(turn) else ()

    def _assemble(self, turns: Turns, grid: torch.Tensor) -> list[int]:
        texts = {_BEFORE: turns.before, _AFTER: turns.after, _SYSTEM: turns.system}
        pads = int(grid.prod()) // self._merged_patches
        ids: list[int] = []
        for piece in _MARKS.split(self._frame(turns)):
            if piece in texts:
                ids += self._plain(texts[piece])
                continue
            for token in self._encode(piece):
                ids += [token] * pads if token == self.image_token else [token]
        if ids.count(self.image_token) != pads:
            raise InputError("The card's texts must not hold image placeholders of their own.")
        return ids

    def _frame(self, turns: Turns) -> str:
        """The chat template with a mark where each text belongs; there are eight of them."""
        key = (bool(turns.before.template.strip()), bool(turns.after.template.strip()), bool(turns.system.template))
        if key not in self._frames:
            self._frames[key] = self._render(*key)
        return self._frames[key]

    def _render(self, before: bool, after: bool, system: bool) -> str:
        content = [
            *([{"type": "text", "text": _BEFORE}] if before else []),
            {"type": "image"},
            *([{"type": "text", "text": _AFTER}] if after else []),
        ]
        first = [{"role": "system", "content": [{"type": "text", "text": _SYSTEM}]}] if system else []
        messages = [*first, {"role": "user", "content": content}]
        return str(self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _plain(self, part: Text) -> list[int]:
        """Ids of the text, cut inside each added token that the words would form."""
        prefix, slot, suffix = part.template.partition(SLOT)
        text = prefix + (part.words if slot else "") + suffix
        start, end = len(prefix), len(text) - len(suffix)
        cuts = [
            match.start() + 1
            for match in self._added_pattern.finditer(text)
            if match.start() < end and match.start() + len(match[1]) > start
        ]
        left = len(text) - len(text.lstrip())
        right = len(text.rstrip())
        bounds = [left, *(cut for cut in cuts if left < cut < right), right]
        return [token for lower, upper in pairwise(bounds) for token in self._encode(text[lower:upper])]

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def _structure(self, ids: list[int]) -> list[int]:
        added = set(self._added.values())
        return [token for token in ids if token in added]
