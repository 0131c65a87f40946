"""Full-weight pretraining: first the vision tower learns to read glyphs, then the whole model to answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures, Qwen3VLVisionModel

from .batches import IGNORED, Screens, collate, patches
from .config import PATCH, SIDE, TOKENS
from .labels import ACROSS, ReadingHead, patch_labels
from .questions import Conversation, converse

READING_BATCH = 16
READING_RATE = 2e-3
ANSWERING_BATCH = 32
ANSWERING_RATE = 2.5e-3
WARMUP = 40


def position_embeddings(side: int, width: int) -> Tensor:
    """2-D sine-cosine embeddings of a grid, (side * side, width); MoCo v3 (Chen et al. 2021), section 3."""
    quarter = width // 4
    angles = torch.arange(side)[:, None] / 10000 ** (torch.arange(quarter) / quarter)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([axis.repeat_interleave(side, 0), axis.repeat(side, 1)], dim=1)


_SUBJECTS = {
    "screen": "kind",
    "column": "marked column",
    "beside": "labelled number",
    "box": "boxed number",
    "number is marked": "marked number",
    "marked number": "marked number",
    "How many": "count of rows",
    "in row": "number in a row",
    "row": "marked row",
}
"""What a question is about, by the first of these words in it."""


@dataclass(frozen=True)
class Views:
    """What the vision tower sees: `embeds` (N, tokens, hidden) and one such per deepstack layer."""

    embeds: Tensor
    deepstack: tuple[Tensor, ...]

    def of(self, chosen: Sequence[int] | slice) -> dict[str, BaseModelOutputWithDeepstackFeatures]:
        """`mm_encoder_outputs` of the model's forward for the chosen screens."""
        output = BaseModelOutputWithDeepstackFeatures(
            # Lists of tensors, as `get_image_features` gives them.
            pooler_output=tuple(self.embeds[chosen]),  # type: ignore[arg-type]
            deepstack_features=[tuple(layer[chosen]) for layer in self.deepstack],  # type: ignore[misc]
        )
        return {"image": output}


def whiten(vision: Qwen3VLVisionModel, pixels: Tensor) -> None:
    """Set the patch embedding to the whitened principal components of the patches of `pixels`.

    Neighbouring pixels are nearly equal, so that a random projection mostly measures brightness; from there the
    tower takes thousands of steps to see strokes.
    """
    values = patches(pixels)
    values = values[values.std(1) > 0.1].double()
    mean = values.mean(0)
    variances, directions = torch.linalg.eigh((values - mean).T @ (values - mean) / len(values))
    width = vision.config.hidden_size
    kernel = (directions[:, -width:] / (variances[-width:] + 1e-3 * variances[-1]).sqrt()).T
    with torch.no_grad():
        vision.patch_embed.proj.weight.copy_(kernel.view_as(vision.patch_embed.proj.weight))
        vision.patch_embed.proj.bias.copy_(-kernel @ mean)
        vision.pos_embed.weight.copy_(position_embeddings(SIDE // PATCH, width))


def learn_to_read(vision: Qwen3VLVisionModel, screens: Screens, steps: int, seed: int) -> None:
    """Train the vision tower in place until every glyph can be read off its patches and its visual tokens."""
    whiten(vision, screens.pixels[:256])
    config = vision.config
    heads = nn.ModuleList([ReadingHead(config.hidden_size, ACROSS // 2), ReadingHead(config.out_hidden_size, 8)])
    # A convolution whose stride is its kernel is a product of matrices, and that is faster on a CPU.
    kernel = vision.patch_embed.proj
    vision.patch_embed.forward = lambda patch: functional.linear(patch, kernel.weight.flatten(1), kernel.bias)
    vision.train()
    optimizer = _optimizer([vision, heads], READING_RATE)
    batches = _batches(len(screens), READING_BATCH, Random(f"reading/{seed}"))
    for step in (bar := tqdm(range(steps), desc="learning to read", mininterval=2)):
        _set_rate(optimizer, READING_RATE, step, steps)
        chosen = next(batches)
        seen = vision(patches(screens.pixels[chosen]), grid_thw=_grids(READING_BATCH))
        labels = screens.labels[chosen]
        by_patch, *_ = heads[0](seen.last_hidden_state, patch_labels(labels))
        by_token, right, right_marked = heads[1](seen.pooler_output, labels)
        _update(optimizer, by_patch + by_token)
        bar.set_postfix(loss=f"{by_token:.3f}", read=f"{right:.3f}", marked=f"{right_marked:.3f}")
    del vision.patch_embed.forward
    vision.eval().requires_grad_(False)


@torch.no_grad()
def look(vision: Qwen3VLVisionModel, screens: Screens) -> Views:
    """What the finished vision tower sees in all screens."""
    embeds: list[Tensor] = []
    layers: list[tuple[Tensor, ...]] = []
    for start in tqdm(range(0, len(screens), 64), desc="looking", mininterval=2):
        pixels = screens.pixels[start : start + 64]
        seen = vision(patches(pixels), grid_thw=_grids(len(pixels)))
        embeds.append(seen.pooler_output.view(len(pixels), TOKENS**2, -1))
        layers.append(tuple(layer.view(len(pixels), TOKENS**2, -1) for layer in seen.deepstack_features))
    return Views(torch.cat(embeds), tuple(torch.cat(layer) for layer in zip(*layers, strict=True)))


def learn_to_answer(
    model: Qwen3VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    screens: Screens,
    views: Views,
    steps: int,
    seed: int,
) -> None:
    """Train the language model in place to answer questions about what the vision tower sees."""
    rng = Random(f"questions/{seed}")
    model.model.language_model.train()
    optimizer = _optimizer([model.model.language_model], ANSWERING_RATE)
    batches = _batches(len(screens), ANSWERING_BATCH, Random(f"answering/{seed}"))
    for step in (bar := tqdm(range(steps), desc="learning to answer", mininterval=2)):
        _set_rate(optimizer, ANSWERING_RATE, step, steps)
        chosen = next(batches)
        conversations = [converse(screens.facts[index], rng) for index in chosen]
        logits, labels = _answers(model, tokenizer, conversations, views.of(chosen))
        # Summed over an answer's tokens: the few that must be read aren't diluted by the many that are the same.
        loss = functional.cross_entropy(logits, labels[labels != IGNORED], reduction="sum")
        loss = loss / sum(len(conversation.turns) for conversation in conversations)
        _update(optimizer, loss)
        bar.set_postfix(loss=f"{loss:.3f}")
    model.eval()


@torch.no_grad()
def held_out(
    model: Qwen3VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    screens: Screens,
    seed: int,
) -> dict[str, tuple[int, int]]:
    """(right, asked) by kind of question on `screens`, one question each; right means every token of the answer.

    All tokens are predicted in one forward pass behind the true answer's beginning, which comes to the same as
    greedy decoding: the first wrong token makes both wrong.
    """
    rng = Random(f"held-out/{seed}")
    views = look(model.model.visual, screens)
    tally: dict[str, tuple[int, int]] = {}
    for start in range(0, len(screens), ANSWERING_BATCH):
        some = slice(start, start + ANSWERING_BATCH)
        facts = screens.facts[some]
        conversations = [converse(fact, rng, most=1) for fact in facts]
        logits, labels = _answers(model, tokenizer, conversations, views.of(some))
        wrong = torch.zeros_like(labels, dtype=torch.bool)
        wrong[labels != IGNORED] = logits.argmax(-1) != labels[labels != IGNORED]
        for fact, conversation, bad in zip(facts, conversations, wrong.any(1).tolist(), strict=True):
            name = f"{fact.kind}: {_subject(conversation.turns[0].question)}"
            right, asked = tally.get(name, (0, 0))
            tally[name] = (right + (not bad), asked + 1)
    return tally


def _answers(
    model: Qwen3VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Conversation],
    seen: dict[str, BaseModelOutputWithDeepstackFeatures],
) -> tuple[Tensor, Tensor]:
    """Logits where an answer's tokens are predicted, (answer tokens, vocabulary), and all labels, (N, L - 1)."""
    inputs = collate(tokenizer, conversations)
    labels = inputs.pop("labels")[:, 1:]
    hidden = model.model(
        **inputs, mm_encoder_outputs=seen, image_grid_thw=_grids(len(conversations)), use_cache=False
    ).last_hidden_state[:, :-1]
    return model.lm_head(hidden[labels != IGNORED]), labels


def _subject(question: str) -> str:
    for words, subject in _SUBJECTS.items():
        if words in question:
            return subject
    return question


def _batches(count: int, size: int, rng: Random) -> Iterator[list[int]]:
    """Batches of indices, every index once before any comes again."""
    while True:
        order = list(range(count))
        rng.shuffle(order)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


def _grids(count: int) -> Tensor:
    return torch.tensor([[1, SIDE // PATCH, SIDE // PATCH]]).expand(count, 3)


def _optimizer(modules: list[nn.Module], rate: float) -> torch.optim.AdamW:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def _set_rate(optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int) -> None:
    """Linear warm-up to `peak`, then a cosine down to a fiftieth of it."""
    for group in optimizer.param_groups:
        group["lr"] = peak * min(1.0, (step + 1) / WARMUP) * (0.51 + 0.49 * math.cos(math.pi * step / steps))


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
