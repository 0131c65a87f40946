"""Screens and conversations as the model takes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from .config import PATCH, SIDE, TOKENS
from .labels import glyph_labels
from .questions import Conversation, converse
from .screens import Facts, RecordedScreen, draw_facts, draw_page

IGNORED = -100
_ANSWER = re.compile(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", re.DOTALL)


@dataclass(frozen=True)
class Screens:
    """Drawn screens: `pixels` uint8 (N, SIDE, SIDE, 3), `labels` as `glyph_labels` makes them, and their facts.

    Pages, which nothing can be asked about, have no facts.
    """

    pixels: Tensor
    labels: Tensor
    facts: list[Facts]

    def __len__(self) -> int:
        return len(self.pixels)


def draw_screens(count: int, seed: str) -> Screens:
    """`count` screens; the same seed draws the same ones."""
    rng = Random(f"screens/{seed}")
    facts = [draw_facts(rng) for _ in tqdm(range(count), desc="drawing screens", mininterval=1)]
    return _screens([fact.screen for fact in facts], facts)


def draw_pages(count: int, seed: str) -> Screens:
    """`count` pages full of glyphs; the same seed draws the same ones."""
    rng = Random(f"pages/{seed}")
    return _screens([draw_page(rng) for _ in tqdm(range(count), desc="drawing pages", mininterval=1)], [])


def _screens(drawn: Sequence[RecordedScreen], facts: list[Facts]) -> Screens:
    flat = torch.stack([torch.frombuffer(bytearray(screen.image.tobytes()), dtype=torch.uint8) for screen in drawn])
    labels = torch.stack([glyph_labels(screen) for screen in drawn])
    return Screens(flat.view(len(drawn), SIDE, SIDE, 3), labels, facts)


def together(one: Screens, other: Screens) -> Screens:
    """All screens of both, for reading only: without facts."""
    return Screens(torch.cat([one.pixels, other.pixels]), torch.cat([one.labels, other.labels]), [])


def patches(pixels: Tensor) -> Tensor:
    """What the image processor makes of screens of SIDE x SIDE, for a whole batch at once.

    `pixels` is uint8 (N, SIDE, SIDE, 3); the result is float32 (N * patches of one, values of a patch).
    """
    values = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    blocks = values.view(-1, 3, TOKENS, 2, PATCH, TOKENS, 2, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
    frames = blocks.unsqueeze(6).expand(*blocks.shape[:6], 2, *blocks.shape[6:])
    return frames.reshape(-1, 3 * 2 * PATCH * PATCH)


def conversation_text(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> str:
    """The conversation in the chat template, with one placeholder for each visual token."""
    messages: list[dict[str, object]] = []
    if conversation.system:
        messages.append({"role": "system", "content": conversation.system})
    for index, turn in enumerate(conversation.turns):
        text = [{"type": "text", "text": turn.question}]
        messages.append({"role": "user", "content": [{"type": "image"}, *text] if index == 0 else text})
        messages.append({"role": "assistant", "content": turn.answer})
    text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    return text.replace("<|image_pad|>", "<|image_pad|>" * TOKENS**2)


def collate(tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation]) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask`, `mm_token_type_ids` and `labels`, (N, L), padded on the right.

    The labels are IGNORED everywhere but on the answers and the `<|im_end|>` behind each.
    """
    texts = [conversation_text(tokenizer, conversation) for conversation in conversations]
    encoded = tokenizer(texts, return_offsets_mapping=True, add_special_tokens=False)
    longest = max(map(len, encoded.input_ids))
    ids = torch.full((len(texts), longest), tokenizer.pad_token_id)
    labels = torch.full((len(texts), longest), IGNORED)
    mask = torch.zeros((len(texts), longest), dtype=torch.long)
    for row, text in enumerate(texts):
        tokens = torch.tensor(encoded.input_ids[row])
        starts = torch.tensor([start for start, _ in encoded.offset_mapping[row]])
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
        for answer in _ANSWER.finditer(text):
            inside = (starts >= answer.start(1)) & (starts < answer.end(1))
            labels[row, : len(tokens)][inside] = tokens[inside]
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    return {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": (ids == image).long(), "labels": labels}


def corpus(count: int, seed: int) -> list[str]:
    """The text that the tokenizer is trained on: conversations of `count` screens, without template."""
    rng = Random(f"corpus/{seed}")
    lines: list[str] = []
    for _ in range(count):
        conversation = converse(draw_facts(rng), rng)
        lines.append(conversation.system or "")
        lines.extend(text for turn in conversation.turns for text in (turn.question, turn.answer))
    return lines
