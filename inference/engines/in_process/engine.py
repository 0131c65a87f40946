"""The engine of transformers and PEFT: one base in this process, named adapters in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adapters.card import AdapterCard
from adapters.weights import name_some
from datasets_app.errors import InputError
from inference.engines.base import StackNotDeployed
from inference.engines.in_process.bank import AdapterBank
from inference.engines.in_process.batch import View
from inference.engines.in_process.clock import Clock, timings_of
from inference.engines.in_process.owner import Owner, wait
from inference.engines.in_process.runner import Runner
from inference.engines.in_process.sample import Sample
from inference.engines.types import AdapterRef, Decision, Request, StackedResult, StackSpec
from inference.routing.scoring import best
from inference.routing.tool_call import parse_tool_call

if TYPE_CHECKING:
    from adapters.backbone.spec import BaseSpec

NONE_LABEL = "none"
"""The label by which a router says that no expert is meant."""

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What one engine may hold and how long a request may wait."""

    queue: int = 64  # requests waiting
    deadline_s: float = 60.0  # until a request's turn comes
    batch: int = 8  # samples in one forward pass of the *_many functions
    stacks: int = 8  # deployed at once; the one used longest ago goes first
    adapters: int = 24  # loaded at once, beyond those that deployed stacks need


class InProcessEngine:
    """Implements `inference.engines.base.Engine` with a model in this process.

    `model` is a `Qwen3VLForConditionalGeneration` that nobody else uses, `base` its fingerprint, `resolve`
    finds the folder of an adapter's digest (`Store.path`). Any thread may call; one thread computes. Images are
    decoded by the caller's thread, so that a broken one never queues.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        base: str,
        resolve: Callable[[str], Path],
        limits: Limits | None = None,
    ) -> None:
        self.base = base
        self.limits = limits or Limits()
        self._runner = Runner(model, processor)
        self._bank = AdapterBank(self._runner.model, base, resolve)
        self._stacks: dict[str, StackSpec] = {}
        self._owner = Owner(self.limits.queue)

    @classmethod
    def load(cls, spec: BaseSpec, resolve: Callable[[str], Path], limits: Limits | None = None) -> InProcessEngine:
        """Load the base model that `spec` describes."""
        from adapters.backbone.loading import load_model, load_processor
        from adapters.backbone.spec import fingerprint

        return cls(load_model(spec), load_processor(spec), fingerprint(spec), resolve, limits)

    # The seam

    def deploy(self, stack: StackSpec) -> None:
        """Load every adapter of the stack; idempotent. InputError if one is broken or they don't go together."""
        self.submit_deploy(stack).result()

    def route(self, request: Request) -> Decision:
        """Decide which expert should answer."""
        return wait(self.submit_route(request), self.limits.deadline_s)

    def infer(self, request: Request) -> StackedResult:
        """Route, then generate with the chosen expert."""
        return wait(self.submit_infer(request), self.limits.deadline_s)

    def status(self) -> dict[str, object]:
        """The base's fingerprint, device, dtype, what is deployed and how many requests wait."""
        return {
            "base": self.base,
            "device": str(self._runner.model.device),
            "dtype": str(self._runner.model.dtype).removeprefix("torch."),
            "stacks": list(self._stacks),
            "adapters": list(self._bank.cards),
            "waiting": self._owner.waiting,
        }

    def close(self) -> None:
        """Finish the request at hand and stop; what still waits is cancelled."""
        self._owner.close()

    # The same, as futures: cancel one and its request is dropped if its turn has not come

    def submit_deploy(self, stack: StackSpec) -> Future[None]:
        """`deploy` as a future."""
        return self._submit(lambda _: self._deploy(stack))

    def submit_route(self, request: Request) -> Future[Decision]:
        """`route` as a future."""
        sample = Sample.of(request)
        return self._submit(lambda queued: self._route(request.stack, [sample], queued)[0][0])

    def submit_infer(self, request: Request) -> Future[StackedResult]:
        """`infer` as a future."""
        sample = Sample.of(request)
        return self._submit(lambda queued: self._infer(request.stack, [sample], queued)[0])

    # Many at once, for evaluations: batched by adapter, in the order of the requests

    def route_many(self, requests: Sequence[Request]) -> list[Decision]:
        """`route` for many requests."""
        return self._many(requests, lambda stack, samples: self._route(stack, samples, 0.0)[0])

    def infer_many(self, requests: Sequence[Request]) -> list[StackedResult]:
        """`infer` for many requests."""
        return self._many(requests, lambda stack, samples: self._infer(stack, samples, 0.0))

    def route_scores_many(self, router: AdapterRef, requests: Sequence[Request]) -> list[dict[str, float]]:
        """The probability of each of the router's labels, for every request, whose `stack` is not read."""

        def scores(samples: list[Sample]) -> list[dict[str, float]]:
            self._trim()
            card = self._load(router, "router")
            return self._scores(router, card, samples, Clock())[0]

        return self._chunked(requests, scores)

    def generate_many(self, adapter: AdapterRef, requests: Sequence[Request]) -> list[str]:
        """The given expert's answer to every request, without routing; the requests' `stack` is not read."""

        def texts(samples: list[Sample]) -> list[str]:
            self._trim()
            card, clock = self._load(adapter, "expert"), Clock()
            views = self._runner.look([sample.image for sample in samples], card, clock)
            return [text for text, *_ in self._answers(adapter, card, views, samples, clock)]

        return self._chunked(requests, texts)

    # On the owner's thread

    def _submit(self, work: Callable[[float], T]) -> Future[T]:
        def serve(queued: float) -> T:
            with self._runner.serving():
                return work(queued)

        return self._owner.submit(serve)

    def _deploy(self, stack: StackSpec) -> None:
        if stack.base != self.base:
            raise InputError(f"The stack belongs to base {stack.base[:80]}, this engine holds {self.base}.")
        names = [expert.name for expert in stack.experts]
        if len(set(names)) != len(names) or NONE_LABEL in names:
            raise InputError(f"Experts of a stack need names of their own, other than {NONE_LABEL!r}.")
        try:
            router = self._load(stack.router, "router")
            for expert in stack.experts:
                self._load(expert, "expert")
            unknown = sorted(set(router.labels) - {*names, NONE_LABEL})
            if unknown:
                raise InputError(f"The router may answer {name_some(unknown)}: no expert of the stack.")
            self._runner.trie(router.labels)
            self._stacks.pop(stack.digest, None)
            self._stacks[stack.digest] = stack
            while len(self._stacks) > self.limits.stacks:
                del self._stacks[next(iter(self._stacks))]
        finally:
            self._trim()

    def _load(self, adapter: AdapterRef, kind: str) -> AdapterCard:
        card = self._bank.load(adapter.digest)
        if card.kind != kind:
            raise InputError(f"The adapter {adapter.name} is no {kind}: its card says {card.kind}.")
        return card

    def _trim(self) -> None:
        """Unload adapters over the limit that no deployed stack needs, the one used longest ago first."""
        needed = {ref.digest for stack in self._stacks.values() for ref in (stack.router, *stack.experts)}
        idle = [digest for digest in self._bank.cards if digest not in needed]
        for digest in idle[: max(0, len(self._bank.cards) - self.limits.adapters)]:
            self._bank.unload(digest)

    def _stack(self, digest: str) -> StackSpec:
        if digest not in self._stacks:
            raise StackNotDeployed(f"The engine does not hold the stack {digest[:80]}: deploy it first.")
        self._stacks[digest] = self._stacks.pop(digest)
        return self._stacks[digest]

    def _scores(
        self, router: AdapterRef, card: AdapterCard, samples: list[Sample], clock: Clock
    ) -> tuple[list[dict[str, float]], list[View]]:
        views = self._runner.look([sample.image for sample in samples], card, clock)
        self._bank.activate(router.digest)
        words = [sample.words for sample in samples]
        return self._runner.route(card, self._runner.trie(card.labels), views, words, clock), views

    def _route(self, stack_digest: str, samples: list[Sample], queued: float) -> tuple[list[Decision], list[View]]:
        """Decisions, and what the router saw, for the experts to use."""
        stack, clock = self._stack(stack_digest), Clock()
        experts = {expert.name: expert for expert in stack.experts}
        card = self._bank.cards[stack.router.digest]
        clock.stages["preprocess"] = sum(sample.decoding for sample in samples)
        scores, views = self._scores(stack.router, card, samples, clock)
        timings = timings_of(queued, clock.shared_by(len(samples)))
        decisions = [
            Decision(best(row), experts.get(best(row)), row, stack.router, stack_digest, timings) for row in scores
        ]
        return decisions, views

    def _infer(self, stack_digest: str, samples: list[Sample], queued: float) -> list[StackedResult]:
        decisions, views = self._route(stack_digest, samples, queued)
        router = self._bank.cards[decisions[0].router.digest]
        chosen: dict[AdapterRef | None, list[int]] = defaultdict(list)
        for i, decision in enumerate(decisions):
            chosen[decision.adapter].append(i)
        results: dict[int, StackedResult] = {}
        for expert, rows in chosen.items():
            if expert is None:
                for i in rows:
                    results[i] = StackedResult(decisions[i], "", None, 0, "none", decisions[i].timings)
                continue
            card, clock = self._bank.cards[expert.digest], Clock()
            group = [samples[i] for i in rows]
            if (card.min_pixels, card.max_pixels) == (router.min_pixels, router.max_pixels):
                seen = [views[i] for i in rows]
            else:
                seen = self._runner.look([sample.image for sample in group], card, clock)
            answers = self._answers(expert, card, seen, group, clock)
            for i, (text, tokens, reason) in zip(rows, answers, strict=True):
                timings = timings_of(queued, decisions[i].timings, clock.shared_by(len(rows)))
                results[i] = StackedResult(decisions[i], text, parse_tool_call(text), tokens, reason, timings)
        return [results[i] for i in range(len(samples))]

    def _answers(
        self, expert: AdapterRef, card: AdapterCard, views: list[View], samples: list[Sample], clock: Clock
    ) -> list[tuple[str, int, str]]:
        """Text, number of tokens and finish reason for each sample."""
        self._bank.activate(expert.digest)
        words = [sample.words for sample in samples]
        limits = [sample.max_tokens for sample in samples]
        answers = self._runner.generate(card, views, words, limits, clock)
        return [(self._runner.prompts.text(a.ids), len(a.ids), a.finish_reason) for a in answers]

    def _chunked(self, requests: Sequence[Request], work: Callable[[list[Sample]], list[T]]) -> list[T]:
        """Queue a batch at a time, so that other requests get their turn in between."""
        results: list[T] = []
        for start in range(0, len(requests), self.limits.batch):
            samples = [Sample.of(request) for request in requests[start : start + self.limits.batch]]
            results += self._submit(partial(_unqueued, work, samples)).result()
        return results

    def _many(self, requests: Sequence[Request], work: Callable[[str, list[Sample]], list[T]]) -> list[T]:
        by_stack: dict[str, list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            by_stack[request.stack].append(i)
        results: dict[int, T] = {}
        for stack, rows in by_stack.items():
            done = self._chunked([requests[i] for i in rows], partial(work, stack))
            results.update(zip(rows, done, strict=True))
        return [results[i] for i in range(len(requests))]


def _unqueued(work: Callable[[list[Sample]], list[T]], samples: list[Sample], _: float) -> list[T]:
    return work(samples)
