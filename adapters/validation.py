"""What must hold of an adapter before anything loads it; no torch, and no library opens the weights."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from adapters.base_shape import LANGUAGE_MODULES, BaseShape
from adapters.canaries import CANARY_FILE, Canaries
from adapters.card import CARD_FILE, AdapterCard
from adapters.weights import MAX_HEADER_BYTES, Tensor, load_json_object, name_some, read_header, scan
from datasets_app.errors import InputError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

MAX_JSON_BYTES = 2**20
MAX_RANK = 1024
MAX_INVOCATION = 64
HEAD_BYTES = 8 + MAX_HEADER_BYTES
MAX_PIXELS = 2**24  # of a screenshot after resizing: 4096 x 4096

_KEY = re.compile(
    r"base_model\.model\.model\.language_model\.layers\.(0|[1-9]\d{0,3})\.(self_attn|mlp)\.([a-z]_proj|[a-z]+_proj)"
    r"\.lora_(A|B)\.weight"
)
_PLAIN_NAME = re.compile(r"[\w .:/\\@+~-]{0,500}")

# Fields that change what the adapter computes in ways that are not supported, with their harmless values.
UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "alpha_pattern": (None, {}),
    "arrow_config": (None,),
    "auto_map": (None,),
    "bias": (None, "none"),
    "fan_in_fan_out": (None, False),
    "kasa_config": (None,),
    "layer_replication": (None,),
    "layers_pattern": (None, []),
    "layers_to_transform": (None,),
    "lora_bias": (None, False),
    "modules_to_save": (None, []),
    "monteclora_config": (None,),
    "rank_pattern": (None, {}),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "trust_remote_code": (None, False),
    "use_bdlora": (None,),
    "use_dora": (None, False),
    "use_qalora": (None, False),
}

# Values of init_lora_weights that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ) take from its
# weights what A and B begin with, so that the adapter belongs to a base that nobody else has.
PLAIN_INITS = (None, True, False, "gaussian", "orthogonal", "eva", "mica")


@dataclass(frozen=True)
class AdapterFacts:
    """What validation learnt: `target_modules` are short names, alike in every language layer.

    `invocation` are the token ids that an activated LoRA is invoked by.
    """

    rank: int
    alpha: float
    rslora: bool
    target_modules: tuple[str, ...]
    layers: int
    tensors: int
    dtype: str
    invocation: tuple[int, ...] = ()


def adapter_root(directory: Path) -> Path:
    """The folder that holds the adapter's files: `directory` or its `final/` subfolder."""
    for root in (directory, directory / "final"):
        if (root / CONFIG_FILE).is_file():
            return root
    raise InputError(f"{CONFIG_FILE} is missing: neither the folder nor its final/ subfolder has it.")


def validate_adapter(directory: Path, base: BaseShape | None = None, expected_base: str | None = None) -> AdapterFacts:
    """Check the adapter in `directory` (or its `final/`) and its card; InputError naming what is wrong.

    `base` adds the check that the tensors fit that base's layers, `expected_base` that the card names the
    base with that fingerprint.
    """
    root = adapter_root(directory)
    if not (root / WEIGHTS_FILE).is_file():
        pickled = any((root / name).exists() for name in ("adapter_model.bin", "adapter_model.pt"))
        reason = "pickle weights are not accepted, save them as safetensors" if pickled else "it is missing"
        raise InputError(f"{WEIGHTS_FILE}: {reason}.")
    if not (root / CARD_FILE).is_file():
        raise InputError(f"{CARD_FILE} is missing: an adapter needs its card, which training writes.")
    card = AdapterCard.parse(read_small(root / CARD_FILE), CARD_FILE)
    validate_card(card, expected_base)
    with (root / WEIGHTS_FILE).open("rb") as weights:
        facts = validate_files(read_small(root / CONFIG_FILE), weights, (root / WEIGHTS_FILE).stat().st_size, base)
    validate_invocation(card, facts)
    if (root / CANARY_FILE).is_file():
        Canaries.parse(read_small(root / CANARY_FILE)).check(card, facts.target_modules)
    return facts


def read_small(path: Path) -> bytes:
    """The bytes of a JSON file of at most `MAX_JSON_BYTES`."""
    with path.open("rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise InputError(f"{path.name} is larger than {MAX_JSON_BYTES} bytes.")
    return data


def validate_card(card: AdapterCard, expected_base: str | None = None) -> None:
    """Check what the card's own types cannot say; InputError naming the field."""
    if expected_base is not None and card.base != expected_base:
        raise InputError(
            f"{CARD_FILE}, field 'base': the adapter was trained on another base model, "
            f"{card.base[:80]} instead of {expected_base}."
        )
    if not card.min_pixels <= card.max_pixels <= MAX_PIXELS:
        raise InputError(f"{CARD_FILE}: min_pixels <= max_pixels <= {MAX_PIXELS} must hold.")
    if card.human.count("<image>") != 1 or card.human.count("{prompt}") > 1:
        raise InputError(f"{CARD_FILE}, field 'human': give <image> once and {{prompt}} at most once.")
    if (card.kind == "router") != bool(card.labels):
        raise InputError(f"{CARD_FILE}, field 'labels': a router needs labels, an expert has none.")
    if len(set(card.labels)) != len(card.labels) or not all(card.labels):
        raise InputError(f"{CARD_FILE}, field 'labels': each label must be given once and not be empty.")


def read_invocation(config: Path) -> tuple[int, ...]:
    """The token ids that invoke the activated adapter with this configuration; none for a plain one."""
    return _check_invocation(load_json_object(read_small(config), CONFIG_FILE).get("alora_invocation_tokens"), None)


def validate_invocation(card: AdapterCard, facts: AdapterFacts) -> None:
    """InputError unless card and configuration invoke the adapter alike: run the other way it gives wrong answers."""
    if card.invocation != facts.invocation:
        raise InputError(
            f"{CARD_FILE}, field 'invocation' is {list(card.invocation)}, unlike {CONFIG_FILE}, "
            f"field 'alora_invocation_tokens': {list(facts.invocation) or None}."
        )


def validate_files(config: bytes, weights: BinaryIO, size: int, base: BaseShape | None = None) -> AdapterFacts:
    """Check the configuration's bytes against the opened weights of `size` bytes."""
    facts, tensors = validate_header(config, weights, size, base)
    broken, zero = scan(weights, tensors)
    if broken:
        raise InputError(f"{WEIGHTS_FILE} has NaN or Inf in {name_some(broken)}.")
    if all(tensor.name in set(zero) for tensor in tensors if ".lora_B." in tensor.name):
        raise InputError(f"{WEIGHTS_FILE}: every lora_B is zero, so the adapter changes nothing: train it first.")
    return facts


def validate_header(
    config: bytes, weights: BinaryIO, size: int, base: BaseShape | None = None
) -> tuple[AdapterFacts, list[Tensor]]:
    """The same without the values: of `weights` only the header is read, its first `HEAD_BYTES` at most."""
    settings = load_json_object(config, CONFIG_FILE)
    rank, alpha, rslora = _check_config(settings)
    invocation = _check_invocation(settings.get("alora_invocation_tokens"), base)
    tensors = read_header(weights, size)
    layers, modules = _check_tensors(tensors, rank, base)
    declared = settings.get("target_modules")
    if isinstance(declared, list):
        short = {str(name).rsplit(".", 1)[-1] for name in declared}
        if short != set(modules):
            differing = sorted(short.symmetric_difference(modules))
            raise InputError(f"{CONFIG_FILE}, field 'target_modules' is unlike the tensors: {name_some(differing)}.")
    facts = AdapterFacts(rank, alpha, rslora, modules, layers, len(tensors), tensors[0].dtype, invocation)
    return facts, tensors


def _check_config(settings: dict[str, Any]) -> tuple[int, float, bool]:
    def wrong(field: str, right: str) -> InputError:
        return InputError(f"{CONFIG_FILE}, field {field!r}: {right}.")

    if settings.get("peft_type") != "LORA":
        raise wrong("peft_type", "must be LORA")
    rank, rslora = settings.get("r"), settings.get("use_rslora", False)
    alpha: Any = settings.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise wrong("r", f"must be a whole number from 1 to {MAX_RANK}")
    if type(alpha) not in (int, float) or not 0 < alpha < 1e6 or not math.isfinite(alpha):
        raise wrong("lora_alpha", "must be a positive number")
    if type(rslora) is not bool:
        raise wrong("use_rslora", "must be true or false")
    for field, harmless in UNSUPPORTED.items():
        if settings.get(field) not in harmless:
            raise wrong(field, "is not supported, leave it out")
    if (init := settings.get("init_lora_weights")) not in PLAIN_INITS:
        raise wrong(
            "init_lora_weights",
            f"{str(init)[:40]!r} changes the base's weights in training; convert the adapter to a plain LoRA (PEFT's "
            "save_pretrained with path_initial_model_for_weight_conversion) or, after LoftQ, train it with true",
        )
    named = settings.get("base_model_name_or_path")
    if named is not None and not (isinstance(named, str) and _PLAIN_NAME.fullmatch(named)):
        raise wrong("base_model_name_or_path", "must be a plain name or path")
    match settings.get("target_modules"):
        case str(pattern) if 0 < len(pattern) <= 2000:
            pass  # A pattern is never run: the tensors say what it matched.
        case [str(), *_] as names if len(names) <= 2000 and all(isinstance(name, str) for name in names):
            unknown = sorted(name for name in names if name.rsplit(".", 1)[-1] not in LANGUAGE_MODULES)
            if unknown:
                right = ", ".join(LANGUAGE_MODULES)
                raise wrong("target_modules", f"unknown modules {name_some(unknown)}; use {right}")
        case _:
            raise wrong("target_modules", "must be a pattern or a list of module names")
    return rank, float(alpha), rslora


def _check_invocation(tokens: Any, base: BaseShape | None) -> tuple[int, ...]:
    if tokens is None:
        return ()
    known = base.tokens if base else 2**31
    is_list = isinstance(tokens, list) and 0 < len(tokens) <= MAX_INVOCATION
    if not is_list or not all(type(token) is int and 0 <= token < known for token in tokens):
        raise InputError(
            f"{CONFIG_FILE}, field 'alora_invocation_tokens': must be a list of 1 to {MAX_INVOCATION} token ids "
            f"below {known}, or be left out."
        )
    return tuple(tokens)


def _check_tensors(tensors: list[Tensor], rank: int, base: BaseShape | None) -> tuple[int, tuple[str, ...]]:
    """Every module of every layer has A and B of fitting sizes; returns the layers and modules."""
    found: dict[tuple[int, str], dict[str, Tensor]] = defaultdict(dict)
    vision, unknown = [], []
    for tensor in tensors:
        match = _KEY.fullmatch(tensor.name)
        if match and LANGUAGE_MODULES.get(match[3]) == match[2]:
            found[int(match[1]), match[3]][match[4]] = tensor
        elif ".visual." in tensor.name:
            vision.append(tensor.name)
        else:
            unknown.append(tensor.name)
    if vision:
        raise InputError(f"Only language layers may be adapted, not these: {name_some(vision)}.")
    if unknown:
        raise InputError(f"Tensors that are no LoRA of a language layer: {name_some(unknown)}.")
    if len({tensor.dtype for tensor in tensors}) != 1:
        raise InputError(f"{WEIGHTS_FILE} mixes dtypes: save all tensors in one.")

    alone = [next(iter(pair.values())).name for pair in found.values() if len(pair) == 1]
    if alone:
        raise InputError(f"lora_A and lora_B come in pairs, but these are alone: {name_some(alone)}.")
    layers = base.layers if base else 1 + max(layer for layer, _ in found)
    modules = tuple(sorted({module for _, module in found}))
    beyond = [found[key]["A"].name for key in sorted(found) if key[0] >= layers]
    if beyond:
        raise InputError(f"The base has {layers} language layers; beyond them lie {name_some(beyond)}.")
    missing = [f"layers.{n}.{module}" for n in range(layers) for module in modules if (n, module) not in found]
    if missing:
        raise InputError(f"Language layers must be adapted alike; missing are {name_some(missing)}.")

    wrong = [tensor.name for pair in found.values() for tensor in pair.values() if len(tensor.shape) != 2]
    wrong = wrong or [
        tensor.name
        for pair in found.values()
        for tensor, actual in ((pair["A"], pair["A"].shape[0]), (pair["B"], pair["B"].shape[1]))
        if actual != rank
    ]
    if wrong:
        raise InputError(f"{CONFIG_FILE}, field 'r' is {rank}, unlike the rank of {name_some(wrong)}.")
    sizes = base.features if base else {module: _features(found[0, module]) for module in modules}
    wrong = [pair["A"].name for (_, module), pair in found.items() if _features(pair) != sizes[module]]
    if wrong:
        raise InputError(f"Sizes that do not fit the base model's layers: {name_some(wrong)}.")
    return layers, modules


def _features(pair: dict[str, Tensor]) -> tuple[int, int]:
    return pair["A"].shape[1], pair["B"].shape[0]
