"""The engine of this process: one base model, its adapters side by side, requests of all of them in one batch."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base_shape import BaseShape
from adapters.card import AdapterCard
from datasets_app.errors import InputError
from inference.engines.base import EngineError
from inference.engines.chat import Chat, Completion, Token, check_choices, model_name
from inference.engines.checks import check_kind, check_labels, check_stack
from inference.engines.in_process.files import read_adapter
from inference.engines.in_process.jobs import Deployment, Job, Role
from inference.engines.in_process.lora import LoraSlots
from inference.engines.in_process.packed import pack
from inference.engines.in_process.pool import AdapterPool
from inference.engines.in_process.preparation import Preparation
from inference.engines.in_process.proof import Prover
from inference.engines.in_process.receipts import Receipts
from inference.engines.in_process.runner import Runner
from inference.engines.in_process.scheduler import Scheduler
from inference.engines.in_process.stacks import Stacks
from inference.engines.in_process.worker import Worker
from inference.engines.limits import Limits
from inference.engines.streams import told
from inference.engines.types import AdapterRef, Decision, Request, StackedResult, StackSpec, StreamEvent
from inference.routing.trie import NameTrie

if TYPE_CHECKING:
    from adapters.backbone.spec import BaseSpec

MAX_CHOICE_TOKENS = 512


class InProcessEngine:
    """Implements `inference.engines.base.Engine` with a model in this process.

    `model` is a `Qwen3VLForConditionalGeneration` that nobody else uses, `base` its fingerprint, `resolve`
    finds the folder of an adapter's digest (`Store.path`). Any thread may call; one thread computes. Images are
    decoded by a few others, and adapters read by the caller's. `failed` is called once, on that one thread, when the
    model has failed for good, and everybody is refused from then on; without it, it is tried on and on.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        base: str,
        resolve: Callable[[str], Path],
        limits: Limits | None = None,
        failed: Callable[[], object] | None = None,
    ) -> None:
        self.base = base
        self.limits = limits or Limits()
        self._resolve = resolve
        self._reading = threading.Lock()
        self._runner = Runner(model, processor)
        self._shape = BaseShape.of(model.config.get_text_config().to_dict())
        self._slots = LoraSlots(self._runner.model)
        pack(self._runner.model)
        self._prover = Prover(self._runner, self._slots)
        self._pool = AdapterPool(self._slots, self.limits.adapters)
        self._stacks = Stacks(self._pool, self.limits.stacks)
        self._models = Stacks(self._pool, self.limits.adapters)
        receipts = Receipts(base, self._runner)
        self._worker = Worker(self._runner, self._slots, self._pool, self._prover, receipts, self.limits)
        self._scheduler = Scheduler(self._runner, self._worker, self.limits, failed)
        self._preparation = Preparation(self._runner, self._pool, self._scheduler, self.limits.deadline_s)

    @classmethod
    def load(
        cls,
        spec: BaseSpec,
        resolve: Callable[[str], Path],
        limits: Limits | None = None,
        failed: Callable[[], object] | None = None,
    ) -> InProcessEngine:
        """Load the base model that `spec` describes."""
        from adapters.backbone.loading import load_model, load_processor
        from adapters.backbone.spec import fingerprint

        return cls(load_model(spec), load_processor(spec), fingerprint(spec), resolve, limits, failed)

    @property
    def places(self) -> int:
        """How many requests it may hold at once: those that wait, those that are being answered, and one more of each
        deployment, which finds a place in a full queue.
        """
        limits = self.limits
        return limits.queue + limits.batch + limits.stacks + limits.adapters

    @property
    def deadline_s(self) -> float:
        """Seconds from a request's arrival to its end."""
        return self.limits.deadline_s

    @property
    def is_stalled(self) -> bool:
        """Whether the model has finished no step for longer than it may take."""
        return self._scheduler.is_stalled

    # The seam

    def deploy(self, stack: StackSpec) -> None:
        """Load every adapter of the stack, then let requests name it; idempotent.

        Requests of other stacks go on meanwhile. InputError if an adapter is broken or they don't go together.
        """
        check_stack(stack, [self.base])
        held: list[str] = []
        try:
            router = self._load(stack.router, "router", held)
            experts = {expert.name: self._load(expert, "expert", held) for expert in stack.experts}
            check_labels(stack, router.card)
            deployment = Deployment(stack.digest, router, experts, self._runner.trie(router.card.labels))
            self._pool.repin(deployment.digests)
            self._stacks.publish(deployment)
        finally:
            self._pool.unpin(held)

    def route(self, request: Request) -> Decision:
        """Decide which expert should answer."""
        return self.submit_route(request).result()

    def infer(self, request: Request) -> StackedResult:
        """Route, then generate with the chosen expert."""
        return self.submit_infer(request).result()

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """`infer` as it happens: the decision, text deltas, the result. Closing the iterator ends the request."""
        return told(lambda tell: self.submit_stream(request, tell))

    def status(self) -> dict[str, object]:
        """The base's fingerprint, device, dtype, what is deployed, how many requests wait and are being answered."""
        return {
            "base": self.base,
            "device": str(self._runner.model.device),
            "dtype": self._runner.dtype,
            "stacks": self._stacks.digests,
            "adapters": self._pool.digests,
            "adapter_bytes": self._pool.nbytes,
            "unproven": self._pool.unproven,
            "out_of_service": self._pool.withdrawn,
            "waiting": self._scheduler.waiting,
            "running": len(self._worker.running),
            "batch": self._worker.batch,
        }

    def close(self) -> None:
        """Finish the requests that are being answered and stop; what still waits is refused."""
        self._scheduler.close()
        self._preparation.close()

    # The same, as futures: cancel one and its request ends before the model's next step

    def submit_route(self, request: Request) -> Future[Decision]:
        """`route` as a future."""
        return self._preparation.submit(request, self._stacks.acquire(request.stack), answers=False)

    def submit_infer(self, request: Request) -> Future[StackedResult]:
        """`infer` as a future."""
        return self._preparation.submit(request, self._stacks.acquire(request.stack))

    def submit_stream(self, request: Request, on_event: Callable[[StreamEvent], None]) -> Future[StackedResult]:
        """`infer` as a future; `on_event`, on the model's thread, is told decision and text, and must be quick."""
        return self._preparation.submit(request, self._stacks.acquire(request.stack), on_event=on_event)

    # One adapter by itself, without a stack

    @property
    def models(self) -> list[str]:
        """What `load_model` loaded, at most `Limits.adapters`: the one asked longest ago comes first and goes first."""
        return self._models.digests

    @property
    def max_models(self) -> int:
        """How many `models` there may be."""
        return self.limits.adapters

    def load_model(self, adapter: AdapterRef) -> None:
        """Let chats name the adapter, be it a router or an expert.

        InputError if it is broken, or has more labels than a choice may have.
        """
        held: list[str] = []
        try:
            role = self._load(adapter, None, held)
            if role.card.labels:
                self._check_labels(role)
            self._pool.repin(held)
            self._models.publish(Deployment(model_name(adapter), None, {adapter.name: role}))
        finally:
            self._pool.unpin(held)

    def unload_model(self, model: str) -> bool:
        """Let no more chats name it; False if none could."""
        return self._models.retire(model)

    def submit_completion(
        self, chat: Chat, on_event: Callable[[StreamEvent], None] | None = None
    ) -> Future[Completion]:
        """The adapter's answer (greedy); `on_event` is told its text. StackNotDeployed if the model is not there."""
        return self._preparation.submit(chat, self._models.acquire(chat.model), on_event=on_event)

    def submit_choice(self, chat: Chat, choices: Sequence[str]) -> Future[Decision]:
        """How likely each choice is as the adapter's whole answer. StackNotDeployed if the model is not there."""
        trie = self._trie(choices)
        model = self._models.acquire(chat.model)
        role = replace(model.first, card=model.first.card.model_copy(update={"labels": tuple(choices)}))
        return self._preparation.submit(chat, Deployment(model.digest, role, {}, trie), answers=False)

    def spell(self, choices: Sequence[str]) -> dict[str, list[Token]]:
        """The tokens of each choice, with the end token."""
        prompts, end = self._runner.prompts, self._runner.end
        return {
            choice: [Token(token, prompts.text([token])) for token in (*prompts.choice_ids(choice), end)]
            for choice in choices
        }

    def folder(self, digest: str) -> Path:
        """Where the adapter version's files lie; InputError if the store does not hold it."""
        return self._resolve(digest)

    def _trie(self, choices: Sequence[str]) -> NameTrie:
        """Of a stranger's choices, hence not kept and not of any size: each token takes the logits of all words.

        What choices begin with alike is read once, and counts once.
        """
        check_choices(choices)
        ids = [self._runner.prompts.choice_ids(choice) for choice in choices]
        too_many = InputError(f"The choices have more than {MAX_CHOICE_TOKENS} tokens, counting equal beginnings once.")
        if max(map(len, ids)) > MAX_CHOICE_TOKENS:  # before it takes memory
            raise too_many
        try:
            trie = NameTrie.build(ids, self._runner.end)
        except ValueError as error:
            raise InputError("The choices must be different texts, none of them empty.") from error
        if len(trie.ids) > MAX_CHOICE_TOKENS:
            raise too_many
        return trie

    def _check_labels(self, router: Role) -> None:
        """InputError now rather than at every choice among them."""
        try:
            self._trie(router.card.labels)
        except InputError as error:
            raise InputError(f"The labels of {router.ref.name[:80]!r} are no choice: {error}") from error

    # Many at once, for evaluations: in the order of the requests, which wait in no queue

    def infer_many(self, requests: Sequence[Request]) -> list[StackedResult]:
        """`infer` for many requests."""
        return self._many(requests, lambda request: self._stacks.acquire(request.stack))

    def route_scores_many(self, router: AdapterRef, requests: Sequence[Request]) -> list[dict[str, float]]:
        """The probability of each of the router's labels, for every request, whose `stack` is not read."""
        decisions: list[Decision] = self._with(router, "router", requests, answers=False)
        return [decision.probabilities for decision in decisions]

    def generate_many(self, adapter: AdapterRef, requests: Sequence[Request]) -> list[str]:
        """The given expert's answer to every request, without routing; the requests' `stack` is not read."""
        answers: list[Completion] = self._with(adapter, "expert", requests)
        return [answer.text for answer in answers]

    def _with(self, adapter: AdapterRef, kind: str, requests: Sequence[Request], **options: Any) -> list[Any]:
        held: list[str] = []
        try:
            role = self._load(adapter, kind, held)
            if kind == "router":
                alone = Deployment(adapter.digest, role, {}, self._runner.trie(role.card.labels))
            else:
                alone = Deployment(adapter.digest, None, {adapter.name: role})

            def acquire(_: Request) -> Deployment:
                self._pool.repin(alone.digests)
                return alone

            return self._many(requests, acquire, **options)
        finally:
            self._pool.unpin(held)

    def _many(self, requests: Sequence[Request], acquire: Callable[[Request], Deployment], **options: Any) -> list[Any]:
        """At most two batches are under way, so that no more images than theirs are in memory."""
        results: list[Any] = []
        ahead: deque[list[Job]] = deque()
        try:
            for start in range(0, len(requests), self.limits.batch):
                jobs: list[Job] = []
                try:
                    for request in requests[start : start + self.limits.batch]:
                        jobs.append(Job(acquire(request), math.inf, **options))
                        self._preparation.prepare(jobs[-1], request)
                    self._scheduler.submit(jobs)
                except BaseException:
                    for job in jobs:
                        self._pool.unpin(job.deployment.digests)
                    raise
                ahead.append(jobs)
                if len(ahead) > 1:
                    results += _answers(ahead)
            while ahead:
                results += _answers(ahead)
        except BaseException:
            for job in (job for jobs in ahead for job in jobs):
                job.future.cancel()
            raise
        return results

    # Adapters' files, on the caller's thread

    def _load(self, adapter: AdapterRef, kind: str | None, held: list[str]) -> Role:
        """Pin the adapter, of any kind where `kind` is None, and add it to `held`; read it if it is not in the pool."""
        card = self._pool.pin(adapter.digest) or self._read(adapter)
        held.append(adapter.digest)
        if kind:
            check_kind(adapter, card, kind)
        return Role(adapter, card, self._runner.prompts.template(card), self._pool.proven(adapter.digest))

    def _read(self, ref: AdapterRef) -> AdapterCard:
        """Read, prove and place the adapter, one at a time; InputError saying why it may not serve."""
        dtype = self._runner.model.dtype
        with self._reading:
            if card := self._pool.pin(ref.digest):  # Another thread has read it meanwhile.
                return card
            try:
                adapter = read_adapter(self._resolve(ref.digest), ref.digest, self.base, self._shape, dtype)
                prove = self._prover.prepare(adapter)
                return self._scheduler.call(lambda: self._pool.place(adapter, prove), prove.tokens).result()
            except InputError as error:
                raise InputError(f"Adapter {ref.name[:80]!r}: {error}") from error
            except EngineError as error:
                raise EngineError(f"Adapter {ref.name[:80]!r}: {error}") from error


def _answers(batches: deque[list[Job]]) -> list[Any]:
    """Those of the first batch, which then leaves."""
    answers = [job.future.result() for job in batches[0]]
    batches.popleft()
    return answers
