"""Proof of adapter: what it answered to its canaries when it was trained, and what it answers in its slot."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from PIL import Image, ImageDraw

from adapters.canaries import Canaries, Canary
from adapters.card import AdapterCard
from datasets_app.errors import InputError
from inference.engines.checks import check_words
from inference.engines.images import decode
from inference.engines.in_process.batch import look
from inference.engines.in_process.files import ReadAdapter
from inference.engines.in_process.lora import NO_ADAPTER, LoraSlots
from inference.engines.in_process.passes import prefill
from inference.engines.in_process.prefixes import Continuation, invoked_at, join, read
from inference.engines.in_process.prompts import Pixels
from inference.engines.in_process.runner import Runner

WORDS = "Do what this screen asks for."
TOKENS = 16  # whose logits are recorded, of each canary

TOLERANCE = {"float32": (1e-4, 5e-3), "float16": (5e-3, 1e-2), "bfloat16": (3e-2, 6e-2)}
"""By dtype, how far a logit may lie from the recorded one, on the same and on another kind of device.

In units of the largest recorded logit. float32 on another device: GPUs convolve in TF32."""

NOISE = 4  # a difference of so many units in the last place of the largest logit is no difference


def screens() -> tuple[bytes, ...]:
    """Two small screens as PNG, of plain shapes: no font, so the same pixels everywhere."""
    return tuple(_screen(*colours) for colours in (("white", "navy", "orange"), ("black", "teal", "white")))


def _screen(ground: str, bar: str, mark: str) -> bytes:
    image, out = Image.new("RGB", (96, 96), ground), io.BytesIO()
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 95, 11), fill=bar)
    for number, (x, y) in enumerate((x, y) for y in range(20, 85, 16) for x in range(8, 85, 22)):
        draw.rectangle((x, y, x + 14, y + 9), fill=mark if number % 5 == 2 else None, outline=bar)
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def record(runner: Runner, card: AdapterCard, base: Callable[[], AbstractContextManager[Any]]) -> Canaries:
    """Ask the model that has just been trained, as it is and, within `base()`, without its adapter.

    InputError if the adapter is a no-op or gives no numbers.
    """
    pngs = screens()
    asked = _Asked(runner, card, [(png, WORDS) for png in pngs])
    with runner.serving():
        adapted = asked.logits()
        with base():
            plain = asked.logits()
    differences = _differences(adapted, plain, runner)
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
                difference=float(differences[row]),
            )
            for row, png in enumerate(pngs)
        ),
    )


class Proof:
    """Whether an adapter is what its training made: any thread prepares it, the model's thread calls it.

    An adapter without canaries is asked our own, to see that it does anything at all.
    """

    def __init__(self, runner: Runner, slots: LoraSlots, adapter: ReadAdapter) -> None:
        self._runner, self._slots, self._known = runner, slots, adapter.canaries
        runner.check(adapter.card)
        if self._known and self._known.template != runner.prompts.template(adapter.card):
            raise InputError(
                "The prompt template is not that of the training: the base's chat template or the card has changed."
            )
        canaries = self._known.canaries if self._known else ()
        questions = [(canary.png, canary.words) for canary in canaries] or [(png, WORDS) for png in screens()]
        self._asked = _Asked(runner, adapter.card, questions)

    def __call__(self, slot: int) -> None:
        """One forward pass with and without the adapter in `slot`; InputError saying why it may not serve."""
        adapted, base = self._asked.in_slots(self._slots, [slot, NO_ADAPTER])
        _differences(adapted, base, self._runner)
        if self._known:
            self._compare(self._known, adapted)

    def _compare(self, known: Canaries, adapted: torch.Tensor) -> None:
        tolerance = TOLERANCE[self._runner.dtype][known.device != self._runner.model.device.type]
        for row, canary in zip(adapted, known.canaries, strict=True):
            if not all(0 <= token < len(row) for token in canary.tokens):
                raise InputError("The canaries name tokens that the base does not have.")
            recorded = torch.tensor(canary.logits, device=row.device)
            off = float((row[list(canary.tokens)] - recorded).abs().max())
            allowed = tolerance * max(1.0, float(recorded.abs().max()))
            if off > allowed:
                raise InputError(
                    "The adapter is not the one that was trained, but swapped or stale: its logits differ from those "
                    f"recorded at the training by {off:.3g}, where {allowed:.3g} is allowed."
                )


def _differences(adapted: torch.Tensor, base: torch.Tensor, runner: Runner) -> torch.Tensor:
    """Of each canary, the largest difference that the adapter makes; InputError if that is none, or no number."""
    if not adapted.isfinite().all():
        raise InputError("The adapter gives no numbers: its weights are broken.")
    differences = (adapted - base).abs().amax(dim=1)
    if float(differences.max()) <= NOISE * torch.finfo(runner.model.dtype).eps * float(base.abs().max()):
        raise InputError("The adapter is a no-op: it changes nothing of what the base answers.")
    return differences


class _Asked:
    """Canaries as the model reads them."""

    def __init__(self, runner: Runner, card: AdapterCard, questions: Sequence[tuple[bytes, str]]) -> None:
        self._runner = runner
        self._card = card
        self._pixels: list[Pixels] = []
        self._prompts: list[list[int]] = []
        for png, words in questions:
            check_words(words)
            pixels = runner.prompts.pixels(decode(png), card.min_pixels, card.max_pixels)
            self._pixels.append(pixels)
            self._prompts.append(runner.prompts.ids(card, words, pixels.grid))

    def logits(self) -> torch.Tensor:
        """The logits behind the prompts, of whatever the model is now: (canaries, words), float32."""
        batch = self._runner.collate(self._prompts, look(self._runner.model, self._pixels))
        return prefill(self._runner.model, batch).logits.float()

    def in_slots(self, slots: LoraSlots, numbers: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """The same for the adapter of each slot, in one pass; an activated one begins behind what the base has read."""
        model, count = self._runner.model, len(self._prompts)
        views = look(model, self._pixels)
        if self._card.invocation:
            starts = [prompt[: invoked_at(self._card, prompt)] for prompt in self._prompts]
            prefixes = read(self._runner, slots, starts, views)
            pairs = zip(self._prompts, prefixes, strict=True)
            continued = [Continuation(self._card, prompt, prefix) for prompt, prefix in pairs]
            batch = join(continued * len(numbers), model.device)
        else:
            batch = self._runner.collate(self._prompts * len(numbers), views * len(numbers))
        with slots.use(slots.rows([number for number in numbers for _ in range(count)])):
            answers: tuple[torch.Tensor, ...] = prefill(model, batch).logits.float().split(count)
        return answers
