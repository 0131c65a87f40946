"""The layer sizes of a base model that an adapter must fit, read from its `config.json` without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.backbone.spec import BaseSpec
from datasets_app.errors import InputError

LANGUAGE_MODULES = {
    "q_proj": "self_attn",
    "k_proj": "self_attn",
    "v_proj": "self_attn",
    "o_proj": "self_attn",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "down_proj": "mlp",
}
"""The linear modules of a language layer that may carry a LoRA, and the block each lies in."""


@dataclass(frozen=True)
class BaseShape:
    """Number of language layers and of tokens, how many it attends to at once (`context`), and per linear module its
    input and output features."""

    layers: int
    tokens: int
    context: int
    features: dict[str, tuple[int, int]]

    @classmethod
    def read(cls, directory: Path) -> BaseShape:
        """Read `config.json` of the Qwen3-VL base in `directory`; InputError if a size is absent."""
        path = directory / "config.json"
        try:
            return cls.of(json.loads(path.read_bytes())["text_config"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path.name} of the base model is missing or lacks {error}.") from error

    @classmethod
    def find(cls, spec: BaseSpec) -> BaseShape | None:
        """The shape of the base; None for a hub id, of which nothing lies on this machine."""
        return cls.read(Path(spec.path).expanduser()) if spec.is_local else None

    @classmethod
    def of(cls, text: Mapping[str, Any]) -> BaseShape:
        """The shape that the `text_config` of a Qwen3-VL base describes; KeyError if a size is absent."""
        hidden, inner, heads = text["hidden_size"], text["intermediate_size"], text["num_attention_heads"]
        head = text.get("head_dim") or hidden // heads
        kv = (text.get("num_key_value_heads") or heads) * head
        return cls(
            layers=text["num_hidden_layers"],
            tokens=text["vocab_size"],
            context=text["max_position_embeddings"],
            features={
                "q_proj": (hidden, heads * head),
                "k_proj": (hidden, kv),
                "v_proj": (hidden, kv),
                "o_proj": (heads * head, hidden),
                "gate_proj": (hidden, inner),
                "up_proj": (hidden, inner),
                "down_proj": (inner, hidden),
            },
        )
