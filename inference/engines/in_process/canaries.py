"""Proof of adapter: what it answered to its canaries when it was trained, and what it answers in its slot."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageDraw

from adapters.canaries import Canaries, Canary
from adapters.card import AdapterCard
from datasets_app.errors import InputError
from inference.engines.checks import check_words
from inference.engines.images import decode
from inference.engines.in_process.batch import View, look
from inference.engines.in_process.files import ReadAdapter
from inference.engines.in_process.lora import NO_ADAPTER, LoraSlots
from inference.engines.in_process.passes import prefill
from inference.engines.in_process.prefixes import Continuation, Prefix, invoked_at, join, read
from inference.engines.in_process.prompts import Pixels
from inference.engines.in_process.runner import Runner

WORDS = "Do what this screen asks for."
TOKENS = 16  # whose logits are recorded, of each canary

TOLERANCE = {"float32": (1e-4, 5e-3), "float16": (5e-3, 1e-2), "bfloat16": (3e-2, 6e-2)}
"""By dtype, how far a logit may lie from the recorded one, on the same and on another kind of device.

In units of the largest recorded logit. float32 on another device: GPUs convolve in TF32."""

KEPT = 8  # readings of the base, a few megabytes each
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
        adapted = asked.logits(runner)
        with base():
            plain = asked.logits(runner)
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


class Prover:
    """Asks canaries of adapters in the slots of one model. Any thread may `prepare`.

    What the base alone makes of canaries is kept: most versions are asked the same ones.
    """

    def __init__(self, runner: Runner, slots: LoraSlots) -> None:
        self._runner, self._slots = runner, slots
        self._readings: dict[bytes, _Reading] = {}  # by what is asked, the one used longest ago first

    def prepare(self, adapter: ReadAdapter) -> Proof:
        """The proof of that adapter; InputError if it was not trained for this model or its template."""
        return Proof(self._runner, self, adapter)

    def answers(self, asked: _Asked, slot: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits (canaries, words), float32, of the adapter in `slot` and of the base alone.

        Only the thread that runs the model may call this.
        """
        reading = self._readings.pop(asked.key, None) or self._read(asked)
        self._readings[asked.key] = reading
        for key in list(self._readings)[:-KEPT]:
            del self._readings[key]
        return self._logits(asked, reading.views, reading.prefixes, slot), reading.logits

    def _read(self, asked: _Asked) -> _Reading:
        views = look(self._runner.model, asked.pixels)
        prefixes = read(self._runner, self._slots, asked.beginnings, views) if asked.card.invocation else []
        return _Reading(views, prefixes, self._logits(asked, views, prefixes, NO_ADAPTER))

    def _logits(self, asked: _Asked, views: Sequence[View], prefixes: Sequence[Prefix], slot: int) -> torch.Tensor:
        """An activated adapter begins behind what the base has read."""
        if asked.card.invocation:
            pairs = zip(asked.prompts, prefixes, strict=True)
            batch = join([Continuation(asked.card, *pair) for pair in pairs], self._runner.model.device)
        else:
            batch = self._runner.collate(asked.prompts, views)
        with self._slots.use(self._slots.rows([slot] * len(asked.prompts))):
            return prefill(self._runner.model, batch).logits.float()


@dataclass(frozen=True)
class _Reading:
    """What the base alone makes of canaries; prefixes where activated adapters are asked them."""

    views: list[View]
    prefixes: list[Prefix]
    logits: torch.Tensor


class Proof:
    """Whether an adapter is what its training made: any thread prepares it, the model's thread calls it.

    An adapter without canaries is asked our own, to see that it does anything at all.
    """

    def __init__(self, runner: Runner, prover: Prover, adapter: ReadAdapter) -> None:
        self._runner, self._prover, self._known = runner, prover, adapter.canaries
        runner.check(adapter.card)
        if self._known and self._known.template != runner.prompts.template(adapter.card):
            raise InputError(
                "The prompt template is not that of the training: the base's chat template or the card has changed."
            )
        canaries = self._known.canaries if self._known else ()
        questions = [(canary.png, canary.words) for canary in canaries] or [(png, WORDS) for png in screens()]
        self._asked = _Asked(runner, adapter.card, questions)

    def __call__(self, slot: int) -> None:
        """Ask the adapter in `slot`; InputError saying why it may not serve."""
        adapted, base = self._prover.answers(self._asked, slot)
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
    """Canaries as the model reads them; `beginnings` are the `prompts` up to an activated adapter's invocation."""

    def __init__(self, runner: Runner, card: AdapterCard, questions: Sequence[tuple[bytes, str]]) -> None:
        self.card = card
        self.pixels: list[Pixels] = []
        self.prompts: list[list[int]] = []
        for png, words in questions:
            check_words(words)
            pixels = runner.prompts.pixels(decode(png), card.min_pixels, card.max_pixels)
            self.pixels.append(pixels)
            self.prompts.append(runner.prompts.ids(card, words, pixels.grid))
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
