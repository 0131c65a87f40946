"""What the spec leaves open, decided by the base model's size and the device."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapters.backbone.spec import BaseSpec
from datasets_app.errors import InputError

if TYPE_CHECKING:
    from workers.recipes.train import Spec

SMALL_HIDDEN_SIZE = 512


@dataclass(frozen=True)
class Plan:
    """How a training run is carried out."""

    device: str
    dtype: str
    learning_rate: float
    max_steps: int
    eval_every: int
    micro_batch_size: int
    gradient_checkpointing: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def plan(spec: Spec, kind: Literal["router", "expert"]) -> Plan:
    """Fill what `spec` leaves open.

    A small base (hidden size up to 512) learns with large steps: there a router needs about 50 and an expert 150
    to 300. A large one takes the usual rates for LoRA, and micro batches that leave room for screenshots.
    """
    device = _device(spec.device)
    small = _hidden_size(BaseSpec(spec.base, spec.base_revision)) <= SMALL_HIDDEN_SIZE
    router = kind == "router"
    rates = {(True, True): 2e-3, (True, False): 3e-3, (False, True): 2e-4, (False, False): 1e-4}
    steps = {(True, True): 60, (True, False): 300, (False, True): 400, (False, False): 1200}
    max_steps = spec.max_steps or steps[small, router]
    return Plan(
        device=device,
        dtype=("float32" if device == "cpu" or small else "bfloat16") if spec.dtype == "auto" else spec.dtype,
        learning_rate=spec.learning_rate or rates[small, router],
        max_steps=max_steps,
        eval_every=min(max_steps, spec.eval_every or max(1, max_steps // 6)),
        micro_batch_size=spec.micro_batch_size or (spec.batch_size if small else 1),
        gradient_checkpointing=not small if spec.gradient_checkpointing is None else spec.gradient_checkpointing,
    )


def _device(wanted: str) -> str:
    """ "cpu" or "cuda", which is one GPU: the others are hidden from this process before CUDA starts."""
    if wanted == "cpu":
        return wanted
    index = wanted.partition(":")[2] or "0"
    if ":" in wanted or "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = index
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted != "auto":
        raise InputError(f"device {wanted!r} is not there: this machine offers no such GPU.")
    return "cpu"


def _hidden_size(base: BaseSpec) -> float:
    if not base.is_local:
        return float("inf")
    config = json.loads((Path(base.path).expanduser() / "config.json").read_bytes())
    return int(config["text_config"]["hidden_size"])
