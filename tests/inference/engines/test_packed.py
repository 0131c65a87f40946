"""Packed layers give what plain ones give, and the engine on a processor has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from inference.engines.in_process.lora import LoraSlots, SlotLinear
from inference.engines.in_process.packed import FEW, PackedLinear, pack
from tests.inference.engines.small import make_model


@pytest.mark.parametrize("tokens", [1, FEW, FEW + 1, 8, 65, 300])
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_layer_gives_the_products_of_the_plain_one(tokens: int, bias: bool) -> None:
    torch.manual_seed(tokens)
    plain, x = nn.Linear(96, 160, bias=bias), torch.randn(2, tokens, 96)
    with torch.no_grad():
        torch.testing.assert_close(PackedLinear(plain)(x), plain(x), atol=1e-5, rtol=1e-5)


def test_a_model_with_packed_layers_gives_the_logits_that_it_gave(world: Any) -> None:
    ids = torch.arange(5, 45).view(2, 20)
    model = make_model(world.processor)
    with torch.no_grad():
        before = model(input_ids=ids).logits
        LoraSlots(model)
        pack(model)
        torch.testing.assert_close(model(input_ids=ids).logits, before, atol=1e-4, rtol=1e-4)


def test_every_adaptable_layer_and_the_head_is_packed(world: Any) -> None:
    model = make_model(world.processor)
    LoraSlots(model)
    pack(model)
    adaptable = [module.base for module in model.modules() if isinstance(module, SlotLinear)]
    assert adaptable
    assert all(isinstance(layer, PackedLinear) for layer in (*adaptable, model.lm_head))


def test_half_precision_is_left_as_it_is(world: Any) -> None:
    """Without instructions for it, packing gains nothing there."""
    model = make_model(world.processor).bfloat16()
    LoraSlots(model)
    pack(model)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
