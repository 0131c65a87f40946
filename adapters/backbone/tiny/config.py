"""The tiny base's dimensions: about 3 million parameters."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast, Qwen3VLConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SIDE = 192
"""Width and height of the screens it is built on, in pixels."""

PATCH = 16
"""Side of a vision patch in pixels; 2 x 2 patches are merged into one visual token."""

TOKENS = SIDE // PATCH // 2
"""Visual tokens along one side of a screen."""

_VISION_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")

MAX_LENGTH = 4096
"""Tokens of prompt and answer together."""


def image_processor() -> Qwen2VLImageProcessorPil:
    """Resizes to multiples of 32 pixels and at most SIDE * SIDE pixels; channels end in -1..1."""
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": 64 * 64, "longest_edge": SIDE * SIDE},
    )


def model_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    """The config of a model that reads `tokenizer`'s ids."""
    ids = dict(zip(_VISION_TOKENS, tokenizer.convert_tokens_to_ids(list(_VISION_TOKENS)), strict=True))
    hidden = 160
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden,
            "intermediate_size": 448,
            "initializer_range": 0.05,
            "num_hidden_layers": 4,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "head_dim": 32,
            "max_position_embeddings": MAX_LENGTH,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 384,
            "initializer_range": 0.04,
            "num_heads": 4,
            "patch_size": PATCH,
            "out_hidden_size": hidden,
            "num_position_embeddings": (SIDE // PATCH) ** 2,
            "deepstack_visual_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
