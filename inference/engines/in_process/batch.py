"""Prompts of different lengths side by side, padded on the left, with their positions and image features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from inference.engines.in_process.prompts import Pixels


@dataclass(frozen=True)
class View:
    """What the vision tower sees in an image: `embeds` (tokens, hidden), and one such per deepstack layer."""

    grid: torch.Tensor  # (1, 3)
    embeds: torch.Tensor
    deepstack: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Past:
    """What attention remembers of tokens that were read before, `present` (B, P) False on padding."""

    cache: DynamicCache
    present: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """`ids` and `present` (B, L), False on padding; `positions` (3, B, L) as Qwen3-VL's mrope counts them.

    `next_position` (B, 1) is the position of the first token behind each prompt, the same in all three axes.
    Where the prompts continue what was read before, `past` remembers that, and the other fields tell the rest.
    """

    ids: torch.Tensor
    present: torch.Tensor
    positions: torch.Tensor
    next_position: torch.Tensor
    features: dict[str, Any] | None  # `mm_encoder_outputs` of the model's forward
    past: Past | None = None


def look(model: Any, images: Sequence[Pixels]) -> list[View]:
    """Run the vision tower once over all images. It holds no adapter, so a view serves every adapter."""
    grids = torch.cat([image.grid for image in images]).to(model.device)
    values = torch.cat([image.values for image in images]).to(model.device)
    seen = model.model.get_image_features(values, grids, return_dict=True)
    return [
        View(images[i].grid, embeds, tuple(layer[i] for layer in seen.deepstack_features))
        for i, embeds in enumerate(seen.pooler_output)
    ]


def collate(model: Any, prompts: Sequence[list[int]], views: Sequence[View], image_token: int) -> Batch:
    """Left-pad the prompts' ids; prompt `i` shows view `i`."""
    length = max(map(len, prompts))
    ids = torch.tensor([[0] * (length - len(prompt)) + prompt for prompt in prompts])
    present = torch.tensor([[i >= length - len(prompt) for i in range(length)] for prompt in prompts])
    positions, _ = model.model.get_rope_index(
        ids,
        mm_token_type_ids=(ids == image_token).int(),
        image_grid_thw=torch.cat([view.grid for view in views]),
        attention_mask=present.int(),
    )
    features = BaseModelOutputWithDeepstackFeatures(  # Lists of tensors, as `get_image_features` gives them.
        pooler_output=tuple(view.embeds for view in views),  # type: ignore[arg-type]
        deepstack_features=[*zip(*(view.deepstack for view in views), strict=True)],  # type: ignore[list-item]
    )
    return Batch(
        ids=ids.to(model.device),
        present=present.to(model.device),
        positions=positions.to(model.device),
        next_position=(positions.amax(dim=(0, 2)) + 1)[:, None].to(model.device),
        features={"image": features},
    )
