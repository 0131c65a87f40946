"""The names of LoRA tensors: ours, and those that other model classes and wrappers give them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from adapters.base_shape import LANGUAGE_MODULES
from adapters.weights import WEIGHTS_FILE, name_some
from datasets_app.errors import InputError

EXAMPLE = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"

_OURS = re.compile(
    r"base_model\.model\.model\.language_model\.layers\.(0|[1-9]\d{0,3})\.(self_attn|mlp)\.([a-z]+_proj)"
    r"\.lora_(A|B)\.weight",
    re.ASCII,
)
_SHAPES = (
    (r"(^|\.)(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.", "a compiled or wrapped model"),
    (r"^module\.", "a model wrapped for training on several GPUs"),
    (r"\.lora_[AB]\.\w+\.weight$", "a raw state dict, in which the adapter's own name follows lora_A and lora_B"),
    (r"language_model\.model\.layers\.", "the model class of an older transformers"),
    (r"^(?!base_model\.model\.)", "a model without PEFT's base_model.model. in front"),
    (r"^base_model\.model\.language_model\.", "AutoModel's class"),
    (r"^base_model\.model\.(model\.)?layers\.", "a class for text alone"),
)


@dataclass(frozen=True)
class LoraName:
    """What the name of a tensor says: `part` is "A" or "B"."""

    layer: int
    module: str
    part: str

    @classmethod
    def parse(cls, name: str) -> LoraName | None:
        """None if it is not the name of a LoRA tensor of a language layer, as PEFT calls them on Qwen3-VL."""
        match = _OURS.fullmatch(name)
        if match is None or LANGUAGE_MODULES.get(match[3]) != match[2]:
            return None
        return cls(int(match[1]), match[3], match[4])


def refuse(names: list[str]) -> None:
    """InputError saying what is wrong with these names, none of which `LoraName` takes; nothing if there are none."""
    vision = [name for name in names if ".visual." in name]
    if vision:
        raise InputError(f"Only language layers may be adapted, not these: {name_some(vision)}.")
    for name in filter(_is_language_lora, names):
        for pattern, whose in _SHAPES:
            if re.search(pattern, name):
                raise InputError(
                    f"{WEIGHTS_FILE} names its tensors as those of {whose}: {name_some(names)}. Wanted are names as "
                    f"PEFT's save_pretrained writes them on Qwen3VLForConditionalGeneration, like {EXAMPLE} "
                    "(docs/data.md, 'Adapter files')."
                )
    if names:
        raise InputError(f"Tensors that are no LoRA of a language layer: {name_some(names)}.")


def _is_language_lora(name: str) -> bool:
    """Whether the tensor is one that we serve, but for its name."""
    parts = frozenset(name.split("."))
    return "layers" in parts and bool(parts & LANGUAGE_MODULES.keys()) and bool(parts & {"lora_A", "lora_B"})
