"""What PEFT's LoRA can be configured to compute, against what validation accepts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from adapters.peft_config import CHECKED, HARMLESS, PLAIN_INITS, UNSUPPORTED, LoraSettings
from datasets_app.errors import InputError

PLAIN = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}


def test_every_field_of_peft_has_been_judged() -> None:
    assert {field.name for field in fields(LoraConfig)} <= CHECKED | HARMLESS | UNSUPPORTED
    assert not (CHECKED | HARMLESS) & UNSUPPORTED
    assert not CHECKED & HARMLESS


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


@pytest.mark.parametrize("off", [None, False, "", [], {}])
@pytest.mark.parametrize("field", sorted({*UNSUPPORTED, "use_newmethod", "newmethod_config"}))
def test_a_field_that_is_off_changes_nothing(field: str, off: Any) -> None:
    assert LoraSettings.of(PLAIN | {field: off}) == LoraSettings.of(PLAIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_rslora": None},
        {"bias": "none"},
        {"rank_pattern": {"q_proj": 8, ".*": 8}},
        {"alpha_pattern": {"q_proj": 16.0}},
        {"auto_mapping": {"base_model_class": "Qwen3VLForConditionalGeneration", "unsloth_fixed": True}},
        *[
            {"base_model_name_or_path": name}
            for name in (
                "C:\\models (old)\\Qwen3-VL",
                "/outputs/lr=1e-4,bs=8",
                "/home/o'neil/m",
                "$(id)\n",
                "ä" * 9000,
                "",
            )
        ],
    ],
)
def test_what_says_the_same_in_other_words_is_accepted(changes: dict[str, Any]) -> None:
    assert LoraSettings.of(PLAIN | changes) == LoraSettings.of(PLAIN)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank_pattern", {"q_proj": 4}),
        ("rank_pattern", {"q_proj": 8, "k_proj": 4}),
        ("rank_pattern", {"q_proj": True}),
        ("rank_pattern", [8]),
        ("alpha_pattern", {"q_proj": 8}),
        ("bias", "lora_only"),
        ("layers_to_transform", 0),
        ("layers_to_transform", [1]),
        ("modules_to_save", ["lm_head"]),
        ("velora_config", {"rank": 4}),
    ],
)
def test_what_changes_the_answers_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"field '{field}': is not supported, and without it the adapter would answer"):
        LoraSettings.of(PLAIN | {field: value})


def test_a_field_that_nobody_knows_is_refused_if_it_is_on() -> None:
    later = {"use_newmethod": True, "newmethod_config": {"alpha": 3}, "newmethod_layers": 0, "notes": "x"}
    with pytest.raises(InputError, match="newmethod_config, newmethod_layers, notes, use_newmethod"):
        LoraSettings.of(PLAIN | later)


@pytest.mark.parametrize("rslora", ["true", 1, [True]])
def test_a_switch_is_true_or_false(rslora: Any) -> None:
    with pytest.raises(InputError, match="'use_rslora': must be true or false"):
        LoraSettings.of(PLAIN | {"use_rslora": rslora})
