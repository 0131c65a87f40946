"""An activated LoRA of PEFT's in a base that is called directly, as a trainer's metric does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from inference.engines.in_process.keys_values import KeysValues


@contextmanager
def activated(model: Any) -> Iterator[None]:
    """Let the forward passes inside of `model`, a base, apply PEFT's active adapter from its invocation on.

    PEFT tells the layers that it put there where that is, as `alora_offsets`, only in calls of its own wrapper;
    without them they compute as the base alone. Of a plain adapter, or without PEFT, nothing changes.
    """
    configs: Any = getattr(model, "peft_config", {})
    if not any(getattr(config, "alora_invocation_tokens", None) for config in configs.values()):
        yield
        return
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.variants import calculate_alora_offsets

    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    active = layers[0].active_adapters[0]
    if not configs[active].alora_invocation_tokens:
        yield
        return
    offsets: list[int | None] = []

    def find(_: Any, args: Any, inputs: dict[str, Any]) -> None:
        ids: torch.Tensor = inputs["input_ids"]
        if isinstance(inputs.get("past_key_values"), KeysValues):  # one token more, behind the invocation
            offsets[:] = [1] * len(ids)
        else:
            offsets[:] = calculate_alora_offsets(configs, active, ids)

    def tell(_: Any, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, inputs | {"alora_offsets": offsets}

    hooks = [model.register_forward_pre_hook(find, with_kwargs=True)]
    hooks += [layer.register_forward_pre_hook(tell, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
