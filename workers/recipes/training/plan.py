"""What the spec leaves open, decided by the base model's size and the device."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from adapters.backbone.spec import BaseSpec, is_small, pick_dtype
from workers.recipes.device import pick_device

if TYPE_CHECKING:
    from workers.recipes.training.spec import Spec


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

    A small base (hidden size up to 512) learns with large steps: 120 of them will do.
    A large one takes the usual rates for LoRA, and micro batches that leave room for screenshots.
    """
    base = BaseSpec(spec.base, spec.base_revision)
    device, small = pick_device(spec.device), is_small(base)
    router = kind == "router"
    rates = {(True, True): 5e-3, (True, False): 3e-3, (False, True): 2e-4, (False, False): 1e-4}
    steps = {(True, True): 120, (True, False): 120, (False, True): 400, (False, False): 1200}
    max_steps = spec.max_steps or steps[small, router]
    return Plan(
        device=device,
        dtype=pick_dtype(spec.dtype, device, base),
        learning_rate=spec.learning_rate or rates[small, router],
        max_steps=max_steps,
        eval_every=min(max_steps, spec.eval_every or max(1, max_steps // 6)),
        micro_batch_size=spec.micro_batch_size or (spec.batch_size if small else 1),
        gradient_checkpointing=not small if spec.gradient_checkpointing is None else spec.gradient_checkpointing,
    )
