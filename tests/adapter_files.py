"""Adapter files without a training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from adapters.backbone.spec import TINY_BASE, BaseSpec, fingerprint, pixel_budget
from adapters.base_shape import BaseShape
from adapters.card import AdapterCard


def write_expert(folder: Path, *, with_card: bool = True) -> Path:
    """An expert of the tiny base that says nothing useful, but fits; as from elsewhere, if it is to have no card."""
    shape, rank = BaseShape.read(TINY_BASE), 2
    tensors = {}
    for layer in range(shape.layers):
        inner, outer = shape.features["q_proj"]
        stem = f"base_model.model.model.language_model.layers.{layer}.self_attn.q_proj"
        tensors[f"{stem}.lora_A.weight"] = np.full((rank, inner), 0.5, np.float32)
        tensors[f"{stem}.lora_B.weight"] = np.full((outer, rank), 0.5, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if with_card:
        spec = BaseSpec(str(TINY_BASE))
        low, high = pixel_budget(spec)
        AdapterCard(kind="expert", base=fingerprint(spec), min_pixels=low, max_pixels=high).write(folder)
    return folder
