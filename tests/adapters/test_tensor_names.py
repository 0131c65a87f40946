"""Tensors that another model class or wrapper named are refused with what they are and what is wanted."""

from __future__ import annotations

import pytest

from adapters.tensor_names import EXAMPLE, LoraName, refuse
from datasets_app.errors import InputError

TAIL = "layers.0.self_attn.q_proj.lora_A.weight"


def test_our_own_example_is_taken() -> None:
    assert LoraName.parse(EXAMPLE) == LoraName(0, "q_proj", "A")


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        (f"base_model.model.model.{TAIL}", "a class for text alone"),
        (f"base_model.model.{TAIL}", "a class for text alone"),
        (f"base_model.model.language_model.model.{TAIL}", "an older transformers"),
        (f"base_model.model.language_model.{TAIL}", "AutoModel"),
        (EXAMPLE.replace(".weight", ".default.weight"), "a raw state dict"),
        (f"base_model.model._orig_mod.model.language_model.{TAIL}", "a compiled or wrapped model"),
        (EXAMPLE.replace("self_attn", "_checkpoint_wrapped_module.self_attn"), "a compiled or wrapped model"),
        (f"module.{EXAMPLE}", "a model wrapped for training on several GPUs"),
        (EXAMPLE.removeprefix("base_model.model."), "without PEFT's base_model.model."),
    ],
)
def test_the_message_says_whose_names_they_are_and_what_is_wanted(name: str, whose: str) -> None:
    assert LoraName.parse(name) is None
    with pytest.raises(InputError, match=whose) as refused:
        refuse([name])
    assert EXAMPLE in str(refused.value) and "docs/data.md" in str(refused.value)


@pytest.mark.parametrize("name", ["base_model.model.lm_head.lora_A.weight", EXAMPLE.replace("lora_A.weight", "weight")])
def test_what_is_no_lora_of_a_language_layer_is_called_so(name: str) -> None:
    with pytest.raises(InputError, match="no LoRA of a language layer"):
        refuse([name])


def test_a_long_hostile_name_costs_no_time() -> None:
    with pytest.raises(InputError):
        refuse(["layers.0." + "self_attn." * 300_000 + "q_proj.lora_A."])


def test_nothing_is_wrong_with_no_names() -> None:
    refuse([])
