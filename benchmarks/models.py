"""Bases and adapters of chosen sizes with random weights: what they answer does not matter, only what that costs."""

from __future__ import annotations

import json
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from adapters.backbone.spec import TINY_BASE, BaseSpec, fingerprint
from adapters.base_shape import LANGUAGE_MODULES, BaseShape
from adapters.card import AdapterCard


@dataclass(frozen=True)
class Size:
    """A base's sizes, width and height of its screenshots, and its adapters' rank. `layers` 0: the tiny base."""

    layers: int = 0
    hidden: int = 0
    inner: int = 0
    heads: int = 0
    kv_heads: int = 0
    head: int = 0
    words: int = 0
    vision_hidden: int = 0
    vision_inner: int = 0
    vision_heads: int = 0
    vision_depth: int = 0
    screen: tuple[int, int] = (192, 192)
    rank: int = 16
    dtype: str = "float32"

    @property
    def pixels(self) -> int:
        """Of a screenshot."""
        return self.screen[0] * self.screen[1]


SIZES = {
    "tiny": Size(),
    "mid": Size(22, 1024, 3072, 16, 8, 64, 32_768, 768, 3072, 12, 12, (448, 448), 8),
    "8b": Size(36, 4096, 12_288, 32, 8, 128, 151_936, 1152, 4304, 16, 27, (1920, 1080), 16, "bfloat16"),
}


def make_base(size: Size, folder: Path) -> BaseSpec:
    """Write a base of that size into `folder`, with the tiny base's tokenizer."""
    if not size.layers:
        return BaseSpec()
    tiny = json.loads((TINY_BASE / "config.json").read_bytes())
    text: dict[str, Any] = tiny["text_config"] | {
        "num_hidden_layers": size.layers,
        "hidden_size": size.hidden,
        "intermediate_size": size.inner,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head,
        "vocab_size": size.words,
    }
    quarter = size.head // 2 - 2 * (size.head * 5 // 32)
    text["rope_parameters"] = text["rope_parameters"] | {
        "mrope_section": [quarter, size.head * 5 // 32, size.head * 5 // 32],
    }
    vision = tiny["vision_config"] | {
        "hidden_size": size.vision_hidden,
        "intermediate_size": size.vision_inner,
        "num_heads": size.vision_heads,
        "depth": size.vision_depth,
        "out_hidden_size": size.hidden,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [size.vision_depth // 4, size.vision_depth // 2, 3 * size.vision_depth // 4],
    }
    config = Qwen3VLConfig(**{**tiny, "text_config": text, "vision_config": vision})
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, size.dtype))
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    for file in TINY_BASE.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            shutil.copy(file, folder)
    return BaseSpec(str(folder), dtype=size.dtype)


def make_adapter(
    size: Size, base: BaseSpec, folder: Path, name: str, labels: tuple[str, ...], invocation: tuple[int, ...] = ()
) -> None:
    """Write a random LoRA with its card into `folder`, an activated one if it has an invocation."""
    shape = BaseShape.of(json.loads((Path(base.path) / "config.json").read_bytes())["text_config"])
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    tensors = {}
    for layer in range(shape.layers):
        for module, block in LANGUAGE_MODULES.items():
            inputs, outputs = shape.features[module]
            key = f"base_model.model.model.language_model.layers.{layer}.{block}.{module}"
            a, b = (
                torch.randn(size.rank, inputs, generator=generator),
                torch.randn(outputs, size.rank, generator=generator),
            )
            tensors[f"{key}.lora_A.weight"] = (a / inputs**0.5).bfloat16()
            tensors[f"{key}.lora_B.weight"] = (b * 0.02).bfloat16()
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": size.rank,
        "lora_alpha": 2 * size.rank,
        "target_modules": list(LANGUAGE_MODULES),
        "alora_invocation_tokens": list(invocation) or None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    AdapterCard(
        kind="router" if labels else "expert",
        base=fingerprint(base),
        min_pixels=min(32 * 32, size.pixels),
        max_pixels=size.pixels,
        labels=labels,
        invocation=invocation,
    ).write(folder)
