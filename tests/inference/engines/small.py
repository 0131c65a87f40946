"""Builders of a small random Qwen3-VL, of random adapters for it, and of images."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from adapters.backbone.lora import LANGUAGE_TARGETS
from adapters.backbone.processor import ScreenshotProcessor
from adapters.card import AdapterCard

EXPERTS = ("am", "amx", "an", "bo")  # beginnings that names share, and a name within another
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_processor() -> ScreenshotProcessor:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["cl", "ai", "ca", "cal"]
    vocabulary = {token: i for i, token in enumerate([*alphabet, *words])}
    merges = [("c", "l"), ("a", "i"), ("c", "a"), ("ca", "l")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("<tool_call>", "</tool_call>")])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left"
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=16,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96},
    )
    return ScreenshotProcessor(images, fast, TEMPLATE)


def make_model(processor: ScreenshotProcessor, seed: int = 0) -> Any:
    ids = processor.tokenizer.convert_tokens_to_ids
    torch.manual_seed(seed)
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer) + 8,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 4096,
            "initializer_range": 0.2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
            "initializer_range": 0.2,
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = ids("<|im_end|>")
    model.generation_config.pad_token_id = ids("<|endoftext|>")
    return model


def save_base(directory: Path) -> Path:
    """A folder that `adapters.backbone.loading` can load."""
    processor = make_processor()
    processor.tokenizer.chat_template = TEMPLATE
    make_model(processor).save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def make_adapter(model_of: Any, directory: Path, card: AdapterCard, **config: Any) -> Path:
    """Save a random LoRA (nonzero lora_B) on a fresh base to `directory`."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": LANGUAGE_TARGETS} | config
    peft = get_peft_model(model_of(), LoraConfig(**settings))
    torch.manual_seed(zlib.crc32(directory.name.encode()))
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    peft.save_pretrained(directory)
    card.write(directory)
    return directory


def make_image(seed: int, width: int = 90, height: int = 70, kind: str = "PNG") -> bytes:
    noise = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed))
    out = io.BytesIO()
    Image.fromarray(noise.byte().numpy()).save(out, kind)
    return out.getvalue()
