"""Full-weight pretraining: first the vision tower learns to read, then the whole model to answer."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from adapters.backbone.processor import ScreenshotProcessor

from .config import MERGED, PATCH, SIDE, WIDTH
from .heads import Heads
from .questions import TOPICS, Scene, Turn, ask, draw

IGNORED = -100
RATE, WARMUP = 2.5e-3, 40
SEEING, ANSWERING = (3, 9, 2, 1), (5, 6, 3, 2)
"""How often each kind of screen comes, in the order of KINDS: reading digits is the hardest to learn."""


def learn_to_see(
    model: Qwen3VLForConditionalGeneration, processor: ScreenshotProcessor, steps: int, rng: Random
) -> None:
    """Train the vision tower in place, on batches of 16 fresh screens."""
    vision, heads, batch = model.model.visual, Heads(), 16
    with torch.no_grad():
        vision.pos_embed.weight.copy_(0.5 * position_embeddings(SIDE // PATCH, vision.config.hidden_size))
    vision.train()
    optimizer = _optimizer([vision, heads])
    for step in (bar := tqdm(range(steps), desc="learning to see", mininterval=1)):
        scenes = [draw(rng, SEEING) for _ in range(batch)]
        features = vision(**_pixels(scenes, processor)).pooler_output
        loss, right = heads(features.view(batch, MERGED, -1), scenes)
        _update(optimizer, loss, step, steps)
        bar.set_postfix(loss=f"{loss.item():.3f}", digits_right=f"{right.item():.2f}")
    vision.eval()


@torch.no_grad()
def look(
    model: Qwen3VLForConditionalGeneration, processor: ScreenshotProcessor, count: int, rng: Random
) -> tuple[list[Scene], Tensor]:
    """`count` scenes and what the vision tower sees: (1 + deepstack levels, count, MERGED, WIDTH)."""
    scenes: list[Scene] = []
    seen = []
    for _ in tqdm(range(0, count, 50), desc="looking", mininterval=1):
        more = [draw(rng, ANSWERING) for _ in range(50)]
        out = model.model.visual(**_pixels(more, processor))
        seen.append(torch.stack([out.pooler_output, *out.deepstack_features]).view(-1, 50, MERGED, WIDTH))
        scenes += more
    return scenes, torch.cat(seen, dim=1)


def learn_to_answer(
    model: Qwen3VLForConditionalGeneration,
    processor: ScreenshotProcessor,
    scenes: list[Scene],
    seen: Tensor,
    steps: int,
    rng: Random,
) -> None:
    """Train the language layers in place, on batches of 32 questions about what was `seen`."""
    language, batch = model.model.language_model, 32
    language.train()
    optimizer = _optimizer([language])
    for step in (bar := tqdm(range(steps), desc="learning to answer", mininterval=1)):
        chosen = rng.sample(range(len(scenes)), batch)
        inputs = collate([ask(scenes[index], rng) for index in chosen], processor, rng)
        labels = inputs.pop("labels")[:, 1:]
        logits = model(**inputs, **_features(seen[:, chosen]), use_cache=False).logits[:, :-1]
        # Summed over an answer's tokens: the few that are read are not diluted by the many that never change.
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        _update(optimizer, loss / batch, step, steps)
        bar.set_postfix(loss=f"{loss.item() / batch:.3f}")
    language.eval()


@torch.no_grad()
def held_out(
    model: Qwen3VLForConditionalGeneration, processor: ScreenshotProcessor, count: int, rng: Random
) -> dict[str, tuple[int, int]]:
    """(answers right to the letter, questions) for each topic.

    All tokens are predicted in one pass behind the true answer's beginning, which comes to the same as greedy
    decoding: the first wrong token makes both wrong.
    """
    tally = dict.fromkeys(TOPICS, (0, 0))
    scenes, seen = look(model, processor, count, rng)
    for start in range(0, len(scenes), 50):
        batch = scenes[start : start + 50]
        turns = [ask(scene, rng) for scene in batch]
        inputs = collate(turns, processor, rng)
        labels = inputs.pop("labels")[:, 1:]
        predicted = model(**inputs, **_features(seen[:, start : start + 50])).logits[:, :-1].argmax(-1)
        right = ((predicted == labels) | (labels == IGNORED)).all(1).tolist()
        for turn, good in zip(turns, right, strict=True):
            before = tally[turn.topic]
            tally[turn.topic] = (before[0] + good, before[1] + 1)
    return tally


def collate(turns: list[Turn], processor: ScreenshotProcessor, rng: Random) -> dict[str, Tensor]:
    """Model inputs for questions with their answers, padded on the right; `labels` are IGNORED but on the answers."""
    tokenizer = processor.tokenizer
    rows = []
    for turn in turns:
        text = f"\n{turn.question}" if rng.random() < 0.7 else turn.question
        user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        messages = [{"role": "system", "content": turn.system}, user] if turn.system else [user]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = prompt.replace("<|image_pad|>", "<|image_pad|>" * MERGED)
        rows.append((tokenizer(prompt).input_ids, tokenizer(turn.answer + "<|im_end|>\n").input_ids))
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[index, :end] = torch.tensor(prompt + answer)
        labels[index, len(prompt) : end] = torch.tensor(answer)
        mask[index, :end] = 1
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    return {"input_ids": ids, "labels": labels, "attention_mask": mask, "mm_token_type_ids": (ids == image).long()}


def _pixels(scenes: list[Scene], processor: ScreenshotProcessor) -> dict[str, Tensor]:
    images = processor.image_processor([scene.screen.image for scene in scenes], return_tensors="pt")
    return {"hidden_states": images["pixel_values"], "grid_thw": images["image_grid_thw"]}


def _features(seen: Tensor) -> dict[str, Any]:
    """Model inputs that stand for the screenshots: (1 + deepstack levels, batch, MERGED, WIDTH)."""
    # One tensor a screenshot in each, as `get_image_features` gives them.
    pooled, *deeper = [tuple(level.unbind()) for level in seen]
    output = BaseModelOutputWithDeepstackFeatures(
        pooler_output=pooled,  # type: ignore[arg-type]
        deepstack_features=deeper,  # type: ignore[arg-type]
    )
    grid = torch.tensor([[1, SIDE // PATCH, SIDE // PATCH]]).expand(seen.shape[1], 3)
    return {"mm_encoder_outputs": {"image": output}, "image_grid_thw": grid}


def position_embeddings(side: int, width: int) -> Tensor:
    """2-D sine-cosine embeddings of a grid, (side * side, width); MoCo v3 (Chen et al. 2021), section 3."""
    quarter = width // 4
    angles = torch.arange(side)[:, None] / 10000 ** (torch.arange(quarter) / quarter)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([axis.repeat_interleave(side, 0), axis.repeat(side, 1)], dim=1)


def _optimizer(modules: list[nn.Module]) -> torch.optim.AdamW:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, step: int, steps: int) -> None:
    """One step at a rate that warms up linearly and falls as a cosine to a fiftieth."""
    for group in optimizer.param_groups:
        group["lr"] = RATE * min(1.0, (step + 1) / WARMUP) * (0.51 + 0.49 * math.cos(math.pi * step / steps))
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
