"""Canaries: what is asked of an adapter when it has been trained, and again before it serves."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from adapters.canaries import Canaries, Canary
from adapters.card import AdapterCard
from datasets_app.errors import InputError
from datasets_app.formats.pictures import decode
from inference.engines.canaries import NO_OP, WORDS, screens
from inference.engines.checks import check_words
from inference.engines.in_process.batch import look
from inference.engines.in_process.passes import prefill
from inference.engines.in_process.prefixes import invoked_at
from inference.engines.in_process.prompts import Pixels
from inference.engines.in_process.runner import Runner

TOKENS = 16  # whose logits are recorded, of each canary
NOISE = {torch.float32: 16, torch.bfloat16: 4, torch.float16: 4}
"""A difference of so many units in the last place of the largest logit is none. In float32 the layers' own rounding
adds up to some six of them, by the kind of processor."""


def record(runner: Runner, card: AdapterCard, base: Callable[[], AbstractContextManager[Any]]) -> Canaries:
    """Ask the model that has just been trained, as it is and, within `base()`, without its adapter.

    InputError if the adapter is a no-op or gives no numbers.
    """
    pngs = screens()
    asked = Asked(runner, card, [(png, WORDS) for png in pngs])
    with runner.serving():
        adapted = asked.logits(runner)
        with base():
            plain = asked.logits(runner)
    changes = differences(adapted, plain, runner)
    best = adapted.topk(TOKENS)
    adapted_modules = {name for name, module in runner.model.named_modules() if hasattr(module, "lora_A")}
    return Canaries(
        device=runner.model.device.type,
        card=card.digest,
        template=runner.prompts.template(card),
        modules=tuple(sorted({name.rsplit(".", 1)[-1] for name in adapted_modules})),
        canaries=tuple(
            Canary(
                image=base64.b64encode(png).decode(),
                words=WORDS,
                tokens=tuple(best.indices[row].tolist()),
                logits=tuple(best.values[row].tolist()),
                difference=float(changes[row]),
            )
            for row, png in enumerate(pngs)
        ),
    )


def differences(adapted: torch.Tensor, base: torch.Tensor, runner: Runner) -> torch.Tensor:
    """Of each canary, the largest difference that the adapter makes; InputError if that is none, or no number."""
    if not adapted.isfinite().all():
        raise InputError("The adapter gives no numbers: its weights are broken.")
    differences = (adapted - base).abs().amax(dim=1)
    dtype = runner.model.dtype
    if float(differences.max()) <= NOISE[dtype] * torch.finfo(dtype).eps * float(base.abs().max()):
        raise InputError(NO_OP)
    return differences


class Asked:
    """Canaries as the model reads them; `beginnings` are the `prompts` up to an activated adapter's invocation."""

    def __init__(self, runner: Runner, card: AdapterCard, questions: Sequence[tuple[bytes, str]]) -> None:
        self.card = card
        self.pixels: list[Pixels] = []
        self.prompts: list[list[int]] = []
        for png, words in questions:
            check_words(words)
            pixels = runner.prompts.pixels(decode(png), card.min_pixels, card.max_pixels)
            self.pixels.append(pixels)
            prompt = runner.prompts.ids(card, words, pixels.grid)
            runner.check_length(prompt, 0)
            self.prompts.append(prompt)
        self.key = self._digest()

    def logits(self, runner: Runner) -> torch.Tensor:
        """The logits behind the prompts, of whatever the model is now: (canaries, words), float32."""
        batch = runner.collate(self.prompts, look(runner.model, self.pixels))
        return prefill(runner.model, batch).logits.float()

    @property
    def beginnings(self) -> list[list[int]]:
        """EngineError for a plain adapter."""
        return [prompt[: invoked_at(self.card, prompt)] for prompt in self.prompts]

    def _digest(self) -> bytes:
        """Of all that the base's reading depends on."""
        digest = hashlib.sha256(repr((self.card.invocation, self.prompts)).encode())
        for pixels in self.pixels:
            digest.update(repr(pixels.grid.tolist()).encode() + pixels.values.numpy().tobytes())
        return digest.digest()
