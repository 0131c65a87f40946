"""Proof of adapter: before one may serve, it is asked what it was asked when it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from adapters.canaries import Canaries
from adapters.card import AdapterCard
from datasets_app.errors import InputError
from inference.engines.canaries import TOLERANCE, WORDS, check_distance, screens
from inference.engines.in_process.batch import View, look
from inference.engines.in_process.canaries import Asked, differences
from inference.engines.in_process.files import ReadAdapter
from inference.engines.in_process.lora import NO_ADAPTER, LoraSlots
from inference.engines.in_process.passes import prefill
from inference.engines.in_process.prefixes import Continuation, Prefix, join, read
from inference.engines.in_process.runner import Runner

KEPT = 8  # readings of the base, a few megabytes each


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

    def answers(self, asked: Asked, slot: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits (canaries, words), float32, of the adapter in `slot` and of the base alone.

        Only the thread that runs the model may call this.
        """
        reading = self._readings.pop(asked.key, None) or self._read(asked)
        self._readings[asked.key] = reading
        for key in list(self._readings)[:-KEPT]:
            del self._readings[key]
        return self._logits(asked, reading.views, reading.prefixes, slot), reading.logits

    def gives_numbers(self, card: AdapterCard, slot: int) -> bool:
        """Whether the adapter in `slot` does for our own canaries; to be called by the thread that runs the model."""
        asked = Asked(self._runner, card, [(png, WORDS) for png in screens()])
        return bool(self.answers(asked, slot)[0].isfinite().all())

    def _read(self, asked: Asked) -> _Reading:
        views = look(self._runner.model, asked.pixels)
        prefixes = read(self._runner, self._slots, asked.beginnings, views) if asked.card.invocation else []
        return _Reading(views, prefixes, self._logits(asked, views, prefixes, NO_ADAPTER))

    def _logits(self, asked: Asked, views: Sequence[View], prefixes: Sequence[Prefix], slot: int) -> torch.Tensor:
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
        self._asked = Asked(runner, adapter.card, questions)

    @property
    def tokens(self) -> int:
        """How many it reads: the base and the adapter each all of them."""
        return 2 * sum(map(len, self._asked.prompts))

    def __call__(self, slot: int) -> None:
        """Ask the adapter in `slot`; InputError saying why it may not serve."""
        adapted, base = self._prover.answers(self._asked, slot)
        differences(adapted, base, self._runner)
        if self._known:
            self._compare(self._known, adapted)

    def _compare(self, known: Canaries, adapted: torch.Tensor) -> None:
        tolerance = TOLERANCE[self._runner.dtype][known.device != self._runner.model.device.type]
        for row, canary in zip(adapted, known.canaries, strict=True):
            if not all(0 <= token < len(row) for token in canary.tokens):
                raise InputError("The canaries name tokens that the base does not have.")
            recorded = torch.tensor(canary.logits, device=row.device)
            off = float((row[list(canary.tokens)] - recorded).abs().max())
            check_distance(off, float(recorded.abs().max()), tolerance)
