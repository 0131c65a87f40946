"""An adapter's files, from the disk to tensors that fit a slot. Any thread may read; nothing here touches the model."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from adapters.base_shape import BaseShape
from adapters.canaries import CANARY_FILE, Canaries
from adapters.card import CARD_FILE, AdapterCard
from adapters.peft_config import CONFIG_FILE
from adapters.store import read_verified
from adapters.validation import validate_card, validate_files, validate_invocation
from adapters.weights import WEIGHTS_FILE, name_some
from datasets_app.errors import InputError
from inference.engines.in_process.lora import Weights

_PREFIX, _A, _B = "base_model.model.model.language_model.", ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class ReadAdapter:
    """A validated adapter version in memory; `canaries` is None where training left none."""

    digest: str
    card: AdapterCard
    weights: Weights
    canaries: Canaries | None = None


def read_adapter(folder: Path, digest: str, base: str, shape: BaseShape, dtype: torch.dtype) -> ReadAdapter:
    """Read, hash and validate; InputError if the files have changed, are broken or belong to another base."""
    files = read_verified(folder, digest)
    card = AdapterCard.parse(files[CARD_FILE], CARD_FILE)
    validate_card(card, base, shape)
    data = files[WEIGHTS_FILE]
    facts = validate_files(files[CONFIG_FILE], io.BytesIO(data), len(data), shape)
    validate_invocation(card, facts)
    canaries = Canaries.parse(files[CANARY_FILE]) if CANARY_FILE in files else None
    if canaries:
        canaries.check(card, facts.target_modules)
    scale = facts.alpha / (math.sqrt(facts.rank) if facts.rslora else facts.rank)
    tensors = safetensors.torch.load(data)
    weights = {}
    for name in (name for name in tensors if name.endswith(_A)):
        b = tensors[name.removesuffix(_A) + _B].float() * scale
        weights[name.removeprefix(_PREFIX).removesuffix(_A)] = (tensors[name].to(dtype), b.to(dtype))
    beyond = [name for name, pair in weights.items() if not all(part.isfinite().all() for part in pair)]
    if beyond:
        dtype_name = str(dtype).removeprefix("torch.")
        raise InputError(f"{WEIGHTS_FILE}: values too large for {dtype_name} in {name_some(beyond)}.")
    return ReadAdapter(digest, card, weights, canaries)
