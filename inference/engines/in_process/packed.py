"""Linear layers whose weights lie in memory a second time, as the processor multiplies them.

A plain product rearranges the whole weight at each call, which for 4 to 64 tokens takes longer than the product: a
batch that decodes, an activated adapter's invocation and a router's names are two to three times as fast without.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from inference.engines.in_process.lora import SlotLinear

FEW = 3  # tokens up to which the plain product is the faster one: it reads each weight once and rearranges none
ROWS = 8  # which the layout is made for; it serves any number


def reordered(linear: nn.Linear) -> torch.Tensor:
    """The layer's weight in the processor's layout; only `packed_product` can read it."""
    weight: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
    return weight


def packed_product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., in) to (..., out), with a `reordered` weight."""
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


class PackedLinear(nn.Module):
    """Gives what the linear layer gives, sooner."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self._packed = reordered(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        if x.numel() <= FEW * x.shape[-1]:
            out: torch.Tensor = self.linear(x)
            return out
        return packed_product(x, self._packed, self.linear.bias)


def pack(model: Any) -> None:
    """Pack the adaptable layers and the head of a `Qwen3VLForConditionalGeneration` where its processor gains by it."""
    if model.device.type != "cpu" or model.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return
    for module in model.model.language_model.modules():
        if isinstance(module, SlotLinear) and isinstance(module.base, nn.Linear):
            module.base = PackedLinear(module.base)
    model.lm_head = PackedLinear(model.lm_head)
