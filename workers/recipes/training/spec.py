"""What `train` can be asked for. It reaches no torch, so that a launch can be checked against it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from adapters.backbone.spec import TINY_BASE
from workers.recipes.job import RecipeSpec


class Spec(RecipeSpec):
    """What is trained on what. Fields left out are chosen by base model and device, see `training.plan`."""

    data: Path = Field(description="folder that preprocess made")
    base: str = Field(str(TINY_BASE), description="base model: a folder or a hub id")
    base_revision: str | None = Field(None, description="commit of a base model from the hub")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="of the base's weights")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; default: torch's own choice")
    seed: int = Field(0, ge=0, lt=2**31, description="decides the first weights and the order of the samples")
    activated: bool = Field(
        False, description="activated LoRA: the base alone reads screenshot and words, once for all"
    )
    rank: int = Field(16, ge=1, le=1024, description="rank of the LoRA matrices")
    alpha: int = Field(32, ge=1, le=4096, description="LoRA scale: the update is multiplied by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in front of the LoRA matrices")
    learning_rate: float | None = Field(None, gt=0, le=1, description="peak learning rate")
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field("cosine", description="of the learning rate")
    warmup_steps: int = Field(5, ge=0, description="steps until the learning rate has its peak")
    weight_decay: float = Field(0.0, ge=0, le=1, description="AdamW's weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    max_steps: int | None = Field(None, ge=1, le=10_000_000, description="optimizer steps at most")
    batch_size: int = Field(16, ge=1, le=4096, description="samples in one optimizer step")
    micro_batch_size: int | None = Field(None, ge=1, description="samples in one forward pass; divides batch_size")
    gradient_checkpointing: bool | None = Field(None, description="less memory for more time")
    eval_every: int | None = Field(None, ge=1, description="steps between two validations, each a checkpoint")
    patience: int = Field(6, ge=1, description="validations without improvement until training stops")
    val_samples: int = Field(256, ge=1, description="validation samples used at most")
    cache_mb: int = Field(1024, ge=0, description="memory for what the frozen vision tower sees, in MiB")

    @model_validator(mode="after")
    def _divides(self) -> Spec:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError("micro_batch_size must divide batch_size")
        return self
