"""What PEFT's LoRA can be configured to compute, against what validation accepts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from adapters.validation import PLAIN_INITS, UNSUPPORTED

CHECKED = {
    "alora_invocation_tokens",
    "base_model_name_or_path",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "target_modules",
    "use_rslora",
}
HARMLESS = {
    "auto_mapping",  # names of classes
    "corda_config",  # how A and B began; whether the base changed is init_lora_weights' to say
    "ensure_weight_tying",  # of embeddings, which are no language layers
    "eva_config",
    "exclude_modules",  # the tensors say what is adapted
    "inference_mode",
    "loftq_config",
    "lora_dropout",  # nothing once trained
    "lora_ga_config",
    "megatron_config",  # for layers that no base of ours has
    "megatron_core",
    "peft_version",
    "qalora_group_size",  # of use_qalora
    "revision",
    "runtime_config",  # never saved
    "task_type",
    "velora_config",  # another backward pass
}


def test_every_field_of_peft_has_been_judged() -> None:
    assert {field.name for field in fields(LoraConfig)} <= CHECKED | HARMLESS | UNSUPPORTED.keys()
    assert not (CHECKED | HARMLESS) & UNSUPPORTED.keys()


def moved(init: Any) -> bool:
    """Whether the base's weights are others once there is an adapter that begins so."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(8, 6))
    before = base[0].weight.detach().clone()
    get_peft_model(base, LoraConfig(r=2, target_modules=["0"], init_lora_weights=init))
    layer: Any = base[0]
    return not torch.equal(layer.base_layer.weight, before)


@pytest.mark.filterwarnings("ignore:.*eva")
@pytest.mark.parametrize("init", PLAIN_INITS)
def test_accepted_initialisations_leave_the_base_as_it_is(init: Any) -> None:
    assert not moved(init)


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora"])
def test_others_do_not(init: str) -> None:
    assert moved(init) and init not in PLAIN_INITS
