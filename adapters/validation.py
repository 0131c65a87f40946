"""What must hold of an adapter before anything loads it; no torch."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from adapters.base_shape import BaseShape
from adapters.canaries import CANARY_FILE, Canaries
from adapters.card import CARD_FILE, AdapterCard
from adapters.peft_config import CONFIG_FILE, LoraSettings
from adapters.tensor_names import LoraName, refuse
from adapters.weights import MAX_HEADER_BYTES, WEIGHTS_FILE, Tensor, name_some, read_header, scan
from datasets_app.errors import InputError
from datasets_app.strict_json import json_object

MAX_JSON_BYTES = 2**20
HEAD_BYTES = 8 + MAX_HEADER_BYTES
MAX_PIXELS = 2**24  # of a screenshot after resizing: 4096 x 4096


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
        try:
            if (root / CONFIG_FILE).is_file():
                return root
        except OSError as error:
            raise InputError(f"{CONFIG_FILE} cannot be read: {error.strerror}.") from error
    raise InputError(f"{CONFIG_FILE} is missing: neither the folder nor its final/ subfolder has it.")


def validate_adapter(directory: Path, base: BaseShape | None = None, expected_base: str | None = None) -> AdapterFacts:
    """Check the adapter in `directory` (or its `final/`) and its card; InputError naming what is wrong.

    `base` adds the check that the tensors fit that base's layers, `expected_base` that the card names the
    base with that fingerprint.
    """
    root = adapter_root(directory)
    if not (root / WEIGHTS_FILE).is_file():
        raise missing_weights(root)
    if not (root / CARD_FILE).is_file():
        raise InputError(f"{CARD_FILE} is missing: an adapter needs its card, which training writes.")
    card = AdapterCard.parse(read_small(root / CARD_FILE), CARD_FILE)
    validate_card(card, expected_base, base)
    with (root / WEIGHTS_FILE).open("rb") as weights:
        facts = validate_files(read_small(root / CONFIG_FILE), weights, (root / WEIGHTS_FILE).stat().st_size, base)
    validate_invocation(card, facts)
    if (root / CANARY_FILE).is_file():
        Canaries.parse(read_small(root / CANARY_FILE)).check(card, facts.target_modules)
    return facts


def missing_weights(root: Path) -> InputError:
    """What to say of a folder without safetensors."""
    pickled = any((root / name).exists() for name in ("adapter_model.bin", "adapter_model.pt"))
    reason = "pickle weights are not accepted, save them as safetensors" if pickled else "it is missing"
    return InputError(f"{WEIGHTS_FILE}: {reason}.")


def read_small(path: Path) -> bytes:
    """The bytes of a JSON file of at most `MAX_JSON_BYTES`."""
    with path.open("rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise InputError(f"{path.name} is larger than {MAX_JSON_BYTES} bytes.")
    return data


def validate_card(card: AdapterCard, expected_base: str | None = None, base: BaseShape | None = None) -> None:
    """Check what the card's own types cannot say; InputError naming the field.

    The context of `base` bounds the characters of the card's texts, because a token is hardly ever less than one.
    """
    if expected_base is not None and card.base != expected_base:
        raise InputError(
            f"{CARD_FILE}, field 'base': the adapter was trained on another base model, "
            f"{card.base[:80]} instead of {expected_base}."
        )
    if not card.min_pixels <= card.max_pixels <= MAX_PIXELS:
        raise InputError(f"{CARD_FILE}: min_pixels <= max_pixels <= {MAX_PIXELS} must hold.")
    if card.human.count("<image>") != 1 or card.human.count("{prompt}") > 1:
        raise InputError(f"{CARD_FILE}, field 'human': give <image> once and {{prompt}} at most once.")
    texts = {"system": card.system or "", "human": card.human, "labels": "".join(card.labels)}
    characters = sum(map(len, texts.values()))
    if base is not None and characters > base.context:
        longest = max(texts, key=lambda field: len(texts[field]))
        raise InputError(
            f"{CARD_FILE}, field {longest!r}: the card's texts have {characters} characters together; "
            f"the base's context of {base.context} tokens takes no more than so many characters."
        )
    if (card.kind == "router") != bool(card.labels):
        raise InputError(f"{CARD_FILE}, field 'labels': a router needs labels, an expert has none.")
    if len(set(card.labels)) != len(card.labels) or not all(card.labels):
        raise InputError(f"{CARD_FILE}, field 'labels': each label must be given once and not be empty.")


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
    settings = LoraSettings.of(json_object(config, CONFIG_FILE), base.tokens if base else None)
    tensors = read_header(weights, size)
    layers, modules = _check_tensors(tensors, settings.rank, base)
    if settings.modules not in (None, frozenset(modules)):
        differing = sorted(settings.modules ^ frozenset(modules))
        raise InputError(f"{CONFIG_FILE}, field 'target_modules' is unlike the tensors: {name_some(differing)}.")
    dtype, invocation = tensors[0].dtype, settings.invocation
    facts = AdapterFacts(
        settings.rank, settings.alpha, settings.rslora, modules, layers, len(tensors), dtype, invocation
    )
    return facts, tensors


def _check_tensors(tensors: list[Tensor], rank: int, base: BaseShape | None) -> tuple[int, tuple[str, ...]]:
    """Every module of every layer has A and B of fitting sizes; returns the layers and modules."""
    found: dict[tuple[int, str], dict[str, Tensor]] = defaultdict(dict)
    unknown = []
    for tensor in tensors:
        if name := LoraName.parse(tensor.name):
            found[name.layer, name.module][name.part] = tensor
        else:
            unknown.append(tensor.name)
    refuse(unknown)
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
