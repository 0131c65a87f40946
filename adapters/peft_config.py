"""`adapter_config.json`: which of PEFT's fields are read, which change nothing, and which cannot be served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.base_shape import LANGUAGE_MODULES
from adapters.weights import name_some
from datasets_app.errors import InputError

CONFIG_FILE = "adapter_config.json"

MAX_RANK = 1024
MAX_INVOCATION = 64

CHECKED = frozenset(
    {"alora_invocation_tokens", "init_lora_weights", "lora_alpha", "peft_type", "r", "target_modules", "use_rslora"}
)

HARMLESS = frozenset(
    {
        "auto_mapping",  # names of classes
        "base_model_name_or_path",  # of the machine that trained; the tensors say what fits
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
    }
)

UNSUPPORTED = frozenset(
    {
        "alpha_pattern",
        "arrow_config",
        "auto_map",
        "bias",
        "fan_in_fan_out",
        "kasa_config",
        "layer_replication",
        "layers_pattern",
        "layers_to_transform",
        "lora_bias",
        "modules_to_save",
        "monteclora_config",
        "rank_pattern",
        "target_parameters",
        "trainable_token_indices",
        "trust_remote_code",
        "use_bdlora",
        "use_dora",
        "use_qalora",
        "velora_config",
    }
)
"""Fields that change what the adapter computes, unless they are off."""

# Values of init_lora_weights that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ) take from its
# weights what A and B begin with, so that the adapter fits its own changed base only.
PLAIN_INITS = (None, True, False, "gaussian", "orthogonal", "eva", "mica")


@dataclass(frozen=True)
class LoraSettings:
    """What the configuration says of the computation; `modules` are short names, None where a pattern chose them."""

    rank: int
    alpha: float
    rslora: bool
    modules: frozenset[str] | None
    invocation: tuple[int, ...] = ()

    @classmethod
    def of(cls, settings: dict[str, Any], tokens: int | None = None) -> LoraSettings:
        """Read the configuration of an adapter for a base with so many `tokens`; InputError naming a wrong field."""
        if settings.get("peft_type") != "LORA":
            raise _wrong("peft_type", "must be LORA")
        rank, alpha, rslora = settings.get("r"), settings.get("lora_alpha"), settings.get("use_rslora")
        if type(rank) is not int or not 1 <= rank <= MAX_RANK:
            raise _wrong("r", f"must be a whole number from 1 to {MAX_RANK}")
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < 1e6:
            raise _wrong("lora_alpha", "must be a positive number below a million")
        if not isinstance(rslora, bool | None):
            raise _wrong("use_rslora", "must be true or false")
        _check_others(settings, rank, alpha)
        modules = _modules(settings.get("target_modules"))
        return cls(rank, float(alpha), bool(rslora), modules, read_invocation(settings, tokens))


def read_invocation(settings: dict[str, Any], tokens: int | None = None) -> tuple[int, ...]:
    """The token ids that invoke an activated adapter; none for a plain one."""
    found, known = settings.get("alora_invocation_tokens"), tokens or 2**31
    if found is None:
        return ()
    is_list = isinstance(found, list) and 0 < len(found) <= MAX_INVOCATION
    if not is_list or not all(type(token) is int and 0 <= token < known for token in found):
        words = f"must be a list of 1 to {MAX_INVOCATION} token ids below {known}, or be left out"
        raise _wrong("alora_invocation_tokens", words)
    return tuple(found)


def _wrong(field: str, right: str) -> InputError:
    return InputError(f"{CONFIG_FILE}, field {field!r}: {right}.")


def _check_others(settings: dict[str, Any], rank: int, alpha: float) -> None:
    """InputError for a field that is switched on, and that we do not serve or do not know."""
    repeated = {"rank_pattern": rank, "alpha_pattern": alpha}
    on = {field for field, value in settings.items() if not _is_off(value)}
    for field in sorted(on & UNSUPPORTED):
        value = settings[field]
        if (field, value) != ("bias", "none") and not _repeats(value, repeated.get(field)):
            raise _wrong(field, "is not supported, and without it the adapter would answer otherwise than in training")
    if (init := settings.get("init_lora_weights")) not in PLAIN_INITS:
        raise _wrong(
            "init_lora_weights",
            f"{str(init)[:40]!r} changes the base's weights in training; convert the adapter to a plain LoRA (PEFT's "
            "save_pretrained with path_initial_model_for_weight_conversion) or, after LoftQ, train it with true",
        )
    if unknown := sorted(on - CHECKED - HARMLESS - UNSUPPORTED):
        raise InputError(
            f"{CONFIG_FILE} has fields that this release does not know, and that may change what the adapter "
            f"computes: {name_some(unknown)}. Remove those that do not."
        )


def _is_off(value: object) -> bool:
    return value is None or value is False or value in ("", [], {})


def _repeats(pattern: object, value: float | None) -> bool:
    """Whether each of the pattern's values is the one that all modules have anyway."""
    return isinstance(pattern, dict) and all(type(one) in (int, float) and one == value for one in pattern.values())


def _modules(targets: object) -> frozenset[str] | None:
    """The short names of the modules; None for a pattern, which is never run: the tensors say what it matched."""
    match targets:
        case str(pattern) if 0 < len(pattern) <= 2000:
            return None
        case [_, *_] as names if len(names) <= 2000 and all(isinstance(name, str) for name in names):
            short = frozenset(str(name).rsplit(".", 1)[-1] for name in names)
            if unknown := sorted(short - LANGUAGE_MODULES.keys()):
                right = ", ".join(LANGUAGE_MODULES)
                raise _wrong("target_modules", f"unknown modules {name_some(unknown)}; use {right}")
            return short
    raise _wrong("target_modules", "must be a pattern or a list of module names")
