"""The adapters that lie in one base, each under its content hash."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

from adapters.base_shape import BaseShape
from adapters.card import CARD_FILE, AdapterCard
from adapters.store import read_verified
from adapters.validation import CONFIG_FILE, WEIGHTS_FILE, AdapterFacts, validate_card, validate_files
from adapters.weights import name_some
from datasets_app.errors import InputError


class AdapterBank:
    """Loads adapters into `model` (a `Qwen3VLForConditionalGeneration`) and switches between them.

    `resolve` gives the folder of a digest. An adapter is never found by its name: the same name may mean
    another version tomorrow.
    """

    def __init__(self, model: Any, base: str, resolve: Callable[[str], Path]) -> None:
        self._model = model
        self._peft: PeftModel | None = None
        self._base = base
        self._resolve = resolve
        self._shape = BaseShape.of(model.config.get_text_config().to_dict())
        self._active: str | None = None
        self.cards: dict[str, AdapterCard] = {}
        """The card of every loaded adapter by digest, the one loaded or used longest ago first."""

    def load(self, digest: str) -> AdapterCard:
        """Load the adapter unless it is loaded; InputError if its files have changed, are broken or unfit."""
        if digest in self.cards:
            self.cards[digest] = self.cards.pop(digest)
            return self.cards[digest]
        files = read_verified(self._resolve(digest), digest)
        card = AdapterCard.parse(files[CARD_FILE], CARD_FILE)
        validate_card(card, self._base)
        weights = files[WEIGHTS_FILE]
        facts = validate_files(files[CONFIG_FILE], io.BytesIO(weights), len(weights), self._shape)
        try:
            self._insert(_key(digest), facts, weights)
        except BaseException:
            self._remove(_key(digest))
            raise
        self.cards[digest] = card
        return card

    def activate(self, digest: str) -> None:
        """Let the loaded adapter, and no other, take part in every following forward pass."""
        if self._peft is None or digest not in self.cards:
            raise KeyError(digest)
        if self._active != digest:
            # PEFT turns the gradients of the active adapter on unless told that it only infers.
            self._peft.set_adapter(_key(digest), inference_mode=True)
            self._active = digest

    def unload(self, digest: str) -> None:
        """Free the adapter's weights."""
        del self.cards[digest]
        self._remove(_key(digest))

    def _insert(self, key: str, facts: AdapterFacts, weights: bytes) -> None:
        # The modules come from the validated tensors: a stranger's pattern is never run.
        config = LoraConfig(
            r=facts.rank,
            lora_alpha=facts.alpha,  # type: ignore[arg-type]
            use_rslora=facts.rslora,
            target_modules=rf".*\.language_model\.layers\.\d+\.\w+\.({'|'.join(facts.target_modules)})",
            inference_mode=True,
        )
        self._active = None
        if self._peft is None:
            self._peft = PeftModel(self._model, config, adapter_name=key)
        else:
            self._peft.add_adapter(key, config)
        self._peft.set_adapter(key, inference_mode=True)  # The one that was active may have been deleted.
        state = safetensors.torch.load(weights)
        expected = get_peft_model_state_dict(self._peft, adapter_name=key).keys()
        unlike = sorted(expected ^ state.keys())
        if unlike:
            raise InputError(f"{WEIGHTS_FILE}: missing or unexpected tensors {name_some(unlike)}.")
        result: Any = set_peft_model_state_dict(self._peft, state, adapter_name=key)
        left = [name for name in result.missing_keys if f".{key}." in name] + result.unexpected_keys
        if left:
            raise InputError(f"{WEIGHTS_FILE}: tensors that the base model did not take: {name_some(left)}.")
        self._model.eval()

    def _remove(self, key: str) -> None:
        self._active = None
        if self._peft is not None and key in self._peft.peft_config:
            self._peft.delete_adapter(key)


def _key(digest: str) -> str:
    """PEFT's name of the adapter: module names must not hold dots or colons."""
    return digest.removeprefix("sha256:")
