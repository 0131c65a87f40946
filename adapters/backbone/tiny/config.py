"""The tiny base's dimensions."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast, Qwen3VLConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SIDE = 192
"""Screens are at most SIDE x SIDE pixels: 12 x 12 patches, merged to 36 visual tokens."""

PATCH = 16
MERGED = (SIDE // PATCH // 2) ** 2
"""Visual tokens of one screen."""

WIDTH = 160
"""Hidden size of the language layers, and so of a visual token."""


def image_processor() -> Qwen2VLImageProcessorPil:
    """Resizes to multiples of 32 pixels, at most SIDE x SIDE in all."""
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": 64 * 64, "longest_edge": SIDE * SIDE},
    )


def model_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    """About 2.5 million parameters."""

    def ids(token: str) -> int:
        found = tokenizer.convert_tokens_to_ids(token)
        assert isinstance(found, int)  # noqa: S101 - one token has one id
        return found

    return Qwen3VLConfig(
        text_config={
            "vocab_size": (len(tokenizer) + 63) // 64 * 64,
            "hidden_size": WIDTH,
            "intermediate_size": 480,
            "num_hidden_layers": 4,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": ids("<|im_end|>"),
            "pad_token_id": ids("<|endoftext|>"),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 3,
            "hidden_size": 96,
            "intermediate_size": 288,
            "num_heads": 3,
            "patch_size": PATCH,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": (SIDE // PATCH) ** 2,
            "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
