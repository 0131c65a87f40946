"""The vision tower's first layer as the product that it is.

Its convolution steps by whole patches, so each is one product with the flattened kernel. Libraries treat the
convolution badly, above all in bfloat16 on a GPU. transformers' own `fusion_config` changes the class for everybody
in the process: models made afterwards would be other ones.
"""

from __future__ import annotations

import torch
from torch import nn


class PatchProduct(nn.Linear):
    """(patches, channels, frames, height, width) to (patches, out)."""

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return super().forward(patches.flatten(1))


def as_product(convolution: nn.Conv3d) -> PatchProduct:
    """What gives the same, with the same weights; the kernel is as large as the step."""
    weight, bias = convolution.weight.detach().flatten(1), convolution.bias
    product = PatchProduct(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    product.weight = nn.Parameter(weight)
    if bias is not None:
        product.bias = nn.Parameter(bias.detach())
    return product
