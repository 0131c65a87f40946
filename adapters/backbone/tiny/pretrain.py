"""Full-weight pretraining: first the vision tower learns to read, then the whole model to answer."""

from __future__ import annotations

import math
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import Qwen3VLForConditionalGeneration

from adapters.backbone.processor import ScreenshotProcessor

from .config import MERGED, PATCH, SIDE
from .heads import Heads
from .questions import KINDS, SYSTEMS, Question, ask

IGNORED = -100
RATE, WARMUP = 2.5e-3, 40
SEEING, ANSWERING = (3, 2, 9, 1), (5, 3, 6, 2)
"""How often grids, lists, forms and others come: reading digits is the hardest to learn."""


def learn_to_see(
    model: Qwen3VLForConditionalGeneration, heads: Heads, processor: ScreenshotProcessor, steps: int, rng: Random
) -> None:
    """Train the vision tower alone, in place, on batches of 16 screens."""
    vision, batch = model.model.visual, 16
    with torch.no_grad():
        vision.pos_embed.weight.copy_(0.5 * position_embeddings(SIDE // PATCH, vision.config.hidden_size))
    vision.train()
    optimizer = _optimizer([vision, heads])
    for step in (bar := tqdm(range(steps), desc="learning to see", mininterval=1)):
        questions = [ask(rng, SEEING) for _ in range(batch)]
        images = processor.image_processor([question.screen.image for question in questions], return_tensors="pt")
        features = vision(images["pixel_values"], grid_thw=images["image_grid_thw"]).pooler_output
        loss, right = heads(features.view(batch, MERGED, -1), questions)
        _update(optimizer, loss, step, steps)
        bar.set_postfix(loss=f"{loss.item():.3f}", digits_right=f"{right.item():.2f}")


def learn_to_answer(
    model: Qwen3VLForConditionalGeneration, heads: Heads, processor: ScreenshotProcessor, steps: int, rng: Random
) -> None:
    """Train all weights, in place, on batches of 32 questions, while the vision tower goes on reading."""
    batch = 32
    seen: list[Tensor] = []
    hook = model.model.visual.register_forward_hook(lambda _module, _inputs, out: seen.append(out.pooler_output))
    model.train()
    optimizer = _optimizer([model, heads])
    for step in (bar := tqdm(range(steps), desc="learning to answer", mininterval=1)):
        questions = [ask(rng, ANSWERING) for _ in range(batch)]
        inputs = collate(questions, processor, rng)
        labels = inputs.pop("labels")[:, 1:]
        logits = model(**inputs, use_cache=False).logits[:, :-1]
        # Summed over an answer's tokens: the few that are read are not diluted by the many that never change.
        answering = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        seeing, right = heads(seen.pop().view(batch, MERGED, -1), questions)
        _update(optimizer, answering / batch + seeing, step, steps)
        bar.set_postfix(loss=f"{answering.item() / batch:.3f}", digits_right=f"{right.item():.2f}")
    hook.remove()
    model.eval()


@torch.no_grad()
def held_out(
    model: Qwen3VLForConditionalGeneration, processor: ScreenshotProcessor, count: int, rng: Random
) -> dict[str, tuple[int, int]]:
    """(answers right to the letter, questions) for each kind of screen.

    All tokens are predicted in one pass behind the true answer's beginning, which comes to the same as greedy
    decoding: the first wrong token makes both wrong.
    """
    tally = dict.fromkeys(KINDS, (0, 0))
    for start in range(0, count, 50):
        questions = [ask(rng, ANSWERING) for _ in range(min(50, count - start))]
        inputs = collate(questions, processor, rng)
        labels = inputs.pop("labels")[:, 1:]
        predicted = model(**inputs).logits[:, :-1].argmax(-1)
        right = ((predicted == labels) | (labels == IGNORED)).all(1).tolist()
        for question, good in zip(questions, right, strict=True):
            before = tally[KINDS[question.kind]]
            tally[KINDS[question.kind]] = (before[0] + good, before[1] + 1)
    return tally


def collate(questions: list[Question], processor: ScreenshotProcessor, rng: Random) -> dict[str, Tensor]:
    """Model inputs, padded on the right, and `labels` that are IGNORED everywhere but on the answers."""
    tokenizer = processor.tokenizer
    images = processor.image_processor([question.screen.image for question in questions], return_tensors="pt")
    rows = []
    for question in questions:
        system = rng.choice(SYSTEMS)
        text = f"\n{question.prompt}" if rng.random() < 0.7 else question.prompt
        user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        messages = [{"role": "system", "content": system}, user] if system else [user]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = prompt.replace("<|image_pad|>", "<|image_pad|>" * MERGED)
        rows.append((tokenizer(prompt).input_ids, tokenizer(question.answer + "<|im_end|>\n").input_ids))
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[index, :end] = torch.tensor(prompt + answer)
        labels[index, len(prompt) : end] = torch.tensor(answer)
        mask[index, :end] = 1
    return {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long(),
        "pixel_values": images["pixel_values"],
        "image_grid_thw": images["image_grid_thw"],
    }


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
