"""The one place that loads a base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from adapters.backbone.patches import as_product
from adapters.backbone.processor import ScreenshotProcessor
from adapters.backbone.spec import BaseError, BaseSpec, fingerprint, pick_dtype

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(device: str) -> torch.device:
    """`auto` is the first GPU, or else the CPU; BaseError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise BaseError(f"device {device!r} is not one of auto, cpu, cuda, cuda:N.") from error
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise BaseError(f"device {device!r} is not there: this machine has {torch.cuda.device_count()} GPUs.")
    return resolved


def _where(spec: BaseSpec) -> dict[str, Any]:
    """`from_pretrained` arguments; BaseError unless the folder, or the pinned hub repository, can be named."""
    fingerprint(spec)
    path = str(Path(spec.path).expanduser()) if spec.is_local else spec.path
    return {"pretrained_model_name_or_path": path, "revision": spec.revision or "main"}


def load_processor(spec: BaseSpec) -> ScreenshotProcessor:
    """The base's tokenizer, image processor and chat template."""
    where = _where(spec)
    try:
        # Not Auto*: without torchvision AutoProcessor silently returns a bare tokenizer.
        tokenizer = AutoTokenizer.from_pretrained(**where)
        # The PIL form everywhere: the same pixels on every machine, in training and in serving.
        images = Qwen2VLImageProcessorPil.from_pretrained(**where)
        return ScreenshotProcessor(images, tokenizer, tokenizer.chat_template)
    except (OSError, ValueError) as error:
        raise BaseError(f"The processor of base model {spec.path!r} cannot be loaded: {error}") from error


def load_model(spec: BaseSpec) -> Qwen3VLForConditionalGeneration:
    """The base model in `spec.dtype` on `spec.device`, in evaluation mode, no parameter of it trainable."""
    if spec.dtype not in {"auto", *DTYPES}:
        raise BaseError(f"dtype {spec.dtype!r} is not one of auto, {', '.join(DTYPES)}.")
    device, where = resolve_device(spec.device), _where(spec)
    try:
        architectures = AutoConfig.from_pretrained(**where).architectures or []
        if "Qwen3VLForConditionalGeneration" not in architectures:
            raise BaseError(f"Base model {spec.path!r} is no Qwen3VLForConditionalGeneration but {architectures}.")
        model = Qwen3VLForConditionalGeneration.from_pretrained(
            **where, dtype=DTYPES[pick_dtype(spec.dtype, device.type, spec)], attn_implementation="sdpa"
        )
    except (OSError, ValueError) as error:
        if isinstance(error, BaseError):
            raise
        raise BaseError(f"Base model {spec.path!r} cannot be loaded: {error}") from error
    embed: Any = model.model.visual.patch_embed
    embed.proj = as_product(embed.proj)
    loaded: Qwen3VLForConditionalGeneration = nn.Module.to(model, device).eval().requires_grad_(False)
    return loaded
