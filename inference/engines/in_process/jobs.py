"""A request from its arrival to its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from adapters.card import AdapterCard
from inference.engines.in_process.batch import View
from inference.engines.in_process.prefixes import Prefix
from inference.engines.in_process.prompts import Pixels
from inference.engines.in_process.text import TextStream
from inference.engines.types import AdapterRef, Decision, StreamEvent
from inference.routing.trie import NameTrie


@dataclass(frozen=True)
class Role:
    """An adapter version in a deployment; `template` and `proven` are those of `Used`."""

    ref: AdapterRef
    card: AdapterCard
    template: str
    proven: bool

    @property
    def budget(self) -> tuple[int, int]:
        """The least and most pixels of the screenshot as the adapter sees it."""
        return self.card.min_pixels, self.card.max_pixels


@dataclass(frozen=True)
class Deployment:
    """What a request is answered with: a router and its experts; or a router alone; or, unrouted, one expert.

    `digest` is the stack's, or the lone adapter's; `trie` holds the router's labels.
    """

    digest: str
    router: Role | None
    experts: dict[str, Role]
    trie: NameTrie | None = None

    @property
    def first(self) -> Role:
        """The adapter that sees the screenshot first."""
        return self.router or next(iter(self.experts.values()))

    @property
    def digests(self) -> list[str]:
        """Of all its adapters, each once."""
        roles = [*([self.router] if self.router else []), *self.experts.values()]
        return list(dict.fromkeys(role.ref.digest for role in roles))


@dataclass(eq=False)
class Job:
    """One request. Until it queues it belongs to the thread that prepares it, from then on to the engine's thread;
    while it is `away`, to the one that prepares it again and queues it anew.

    Cancel `future` at any time, and the request ends before the next step of the model. `on_event` is told the
    decision and the text as it comes.
    """

    deployment: Deployment
    deadline: float  # of time.monotonic()
    client: str = ""  # whose turn it takes
    places: int = 1  # that it takes in the queue
    answers: bool = True  # False: the decision is all that is asked for
    on_event: Callable[[StreamEvent], None] | None = None
    future: Future[Any] = field(default_factory=Future)

    words: str = ""
    max_tokens: int = 0
    image_digest: str = ""  # of the encoded image
    budget: tuple[int, int] = (0, 0)  # in which the screenshot is seen
    pixels: Pixels | None = None  # of the screenshot in that budget, until they are looked at
    see_again: Callable[[], None] | None = None  # has it prepared for its expert, where not all budgets are the first's
    away: bool = False  # the engine's thread gave it away since it last took it from the queue
    prompt: list[int] = field(default_factory=list)  # of the adapter whose turn it is
    view: View | None = None
    prefix: Prefix | None = None  # what the base alone has read for an activated adapter
    decision: Decision | None = None
    expert: Role | None = None
    tokens: list[int] = field(default_factory=list)
    fed: int = 0  # how many of the tokens the model has read
    start: int = 0  # position of the first of them, as mrope counts
    text: TextStream | None = None
    closed: bool = False  # ended, its adapters let go of
    timings: dict[str, float] = field(default_factory=dict)
    _marked: float = field(default_factory=time.perf_counter)

    @property
    def work(self) -> int:
        """Tokens that the adapter whose turn it is has to read."""
        return max(1, len(self.prompt))

    def mark(self, stage: str) -> None:
        """Count the milliseconds since the last mark towards `stage`."""
        now = time.perf_counter()
        self.timings[stage] = self.timings.get(stage, 0.0) + (now - self._marked) * 1000
        self._marked = now

    @property
    def told_timings(self) -> dict[str, float]:
        """The stages so far; `generate` is prefill and decode together, `total` everything since the arrival."""
        told = dict(self.timings)
        if "decode" in told:
            told["generate"] = told.get("prefill", 0.0) + told["decode"]
        return told | {"total": sum(self.timings.values())}

    def tell(self, event: StreamEvent) -> None:
        """Pass the event on; a listener that fails has left."""
        if self.on_event is not None:
            try:
                self.on_event(event)
            except Exception:
                self.future.cancel()
