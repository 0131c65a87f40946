"""The engine of this process: one base model, its adapters side by side, requests of all of them in one batch."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adapters.base_shape import BaseShape
from adapters.card import AdapterCard
from adapters.weights import name_some
from datasets_app.errors import InputError
from inference.engines.in_process.files import read_adapter
from inference.engines.in_process.jobs import Deployment, Job, Role
from inference.engines.in_process.lora import LoraSlots
from inference.engines.in_process.pool import AdapterPool
from inference.engines.in_process.runner import Runner
from inference.engines.in_process.scheduler import Limits, Scheduler
from inference.engines.in_process.stacks import Stacks
from inference.engines.in_process.worker import Worker
from inference.engines.streams import told
from inference.engines.types import AdapterRef, Decision, Request, StackedResult, StackSpec, StreamEvent

if TYPE_CHECKING:
    from adapters.backbone.spec import BaseSpec

NONE_LABEL = "none"
"""The label by which a router says that no expert is meant."""

T = TypeVar("T")


class InProcessEngine:
    """Implements `inference.engines.base.Engine` with a model in this process.

    `model` is a `Qwen3VLForConditionalGeneration` that nobody else uses, `base` its fingerprint, `resolve`
    finds the folder of an adapter's digest (`Store.path`). Any thread may call; one thread computes. Images are
    decoded and adapters read by the caller's thread, so that a broken one never queues.
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
        self._resolve = resolve
        self._runner = Runner(model, processor)
        self._shape = BaseShape.of(model.config.get_text_config().to_dict())
        slots = LoraSlots(self._runner.model)
        self._pool = AdapterPool(slots, self.limits.adapters)
        self._stacks = Stacks(self._pool, self.limits.stacks)
        self._worker = Worker(self._runner, slots, self._pool, self.limits.batch)
        self._scheduler = Scheduler(self._runner, self._worker, self.limits)

    @classmethod
    def load(cls, spec: BaseSpec, resolve: Callable[[str], Path], limits: Limits | None = None) -> InProcessEngine:
        """Load the base model that `spec` describes."""
        from adapters.backbone.loading import load_model, load_processor
        from adapters.backbone.spec import fingerprint

        return cls(load_model(spec), load_processor(spec), fingerprint(spec), resolve, limits)

    # The seam

    def deploy(self, stack: StackSpec) -> None:
        """Load every adapter of the stack, then let requests name it; idempotent.

        Requests of other stacks go on meanwhile. InputError if an adapter is broken or they don't go together.
        """
        if stack.base != self.base:
            raise InputError(f"The stack belongs to base {stack.base[:80]}, this engine holds {self.base}.")
        names = [expert.name for expert in stack.experts]
        if len(set(names)) != len(names) or NONE_LABEL in names:
            raise InputError(f"Experts of a stack need names of their own, other than {NONE_LABEL!r}.")
        held: list[str] = []
        try:
            router = self._load(stack.router, "router", held)
            experts = {expert.name: self._load(expert, "expert", held) for expert in stack.experts}
            unknown = sorted(set(router.card.labels) - {*names, NONE_LABEL})
            if unknown:
                raise InputError(f"The router may answer {name_some(unknown)}: no expert of the stack.")
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
            "dtype": str(self._runner.model.dtype).removeprefix("torch."),
            "stacks": self._stacks.digests,
            "adapters": self._pool.digests,
            "adapter_bytes": self._pool.nbytes,
            "out_of_service": self._pool.withdrawn,
            "waiting": self._scheduler.waiting,
            "running": len(self._worker.running),
            "batch": self._worker.batch,
        }

    def close(self) -> None:
        """Finish the requests that are being answered and stop; what still waits is refused."""
        self._scheduler.close()

    # The same, as futures: cancel one and its request ends before the model's next step

    def submit_route(self, request: Request) -> Future[Decision]:
        """`route` as a future."""
        return self._submit(request, answers=False)

    def submit_infer(self, request: Request) -> Future[StackedResult]:
        """`infer` as a future."""
        return self._submit(request)

    def submit_stream(self, request: Request, on_event: Callable[[StreamEvent], None]) -> Future[StackedResult]:
        """`infer` as a future; `on_event`, on the model's thread, is told decision and text, and must be quick."""
        return self._submit(request, on_event=on_event)

    # Many at once, for evaluations: in the order of the requests, which wait in no queue

    def route_many(self, requests: Sequence[Request]) -> list[Decision]:
        """`route` for many requests."""
        return self._many(requests, lambda request: self._stacks.acquire(request.stack), answers=False)

    def infer_many(self, requests: Sequence[Request]) -> list[StackedResult]:
        """`infer` for many requests."""
        return self._many(requests, lambda request: self._stacks.acquire(request.stack))

    def route_scores_many(self, router: AdapterRef, requests: Sequence[Request]) -> list[dict[str, float]]:
        """The probability of each of the router's labels, for every request, whose `stack` is not read."""
        decisions: list[Decision] = self._with(router, "router", requests, answers=False)
        return [decision.probabilities for decision in decisions]

    def generate_many(self, adapter: AdapterRef, requests: Sequence[Request]) -> list[str]:
        """The given expert's answer to every request, without routing; the requests' `stack` is not read."""
        return self._with(adapter, "expert", requests)

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
                        jobs.append(self._job(request, acquire(request), math.inf, **options))
                    self._scheduler.submit(jobs, bounded=False)
                except BaseException:
                    for job in jobs:
                        self._pool.unpin(job.deployment.digests)
                    raise
                ahead.append(jobs)
                if len(ahead) > 1:
                    results += [job.future.result() for job in ahead.popleft()]
            while ahead:
                results += [job.future.result() for job in ahead.popleft()]
        except BaseException:
            for job in (job for jobs in ahead for job in jobs):
                job.future.cancel()
            raise
        return results

    # On the caller's thread

    def _submit(self, request: Request, **options: Any) -> Future[Any]:
        deadline = time.monotonic() + self.limits.deadline_s
        job = self._job(request, self._stacks.acquire(request.stack), deadline, **options)
        try:
            self._scheduler.submit([job])
        except BaseException:
            self._pool.unpin(job.deployment.digests)
            raise
        return job.future

    def _job(self, request: Request, deployment: Deployment, deadline: float, **options: Any) -> Job:
        """The request, checked and prepared for the first adapter; it owns the pins of the deployment from now on."""
        try:
            first, prompts = deployment.first, self._runner.prompts
            self._pool.check(first.ref.digest)
            job = Job.of(request, deployment, deadline, **options)
            job.pixels = prompts.pixels(job.image, first.card.min_pixels, first.card.max_pixels)
            job.prompt = prompts.ids(first.card, job.words, job.pixels.grid)
            job.mark("preprocess")
        except BaseException:
            self._pool.unpin(deployment.digests)
            raise
        return job

    def _load(self, adapter: AdapterRef, kind: str, held: list[str]) -> Role:
        """Pin the adapter, added to `held`, after reading it if it is not in the pool."""
        card = self._pool.pin(adapter.digest) or self._read(adapter.digest)
        held.append(adapter.digest)
        if card.kind != kind:
            raise InputError(f"The adapter {adapter.name} is no {kind}: its card says {card.kind}.")
        return Role(adapter, card)

    def _read(self, digest: str) -> AdapterCard:
        dtype = self._runner.model.dtype
        adapter = read_adapter(self._resolve(digest), digest, self.base, self._shape, dtype)
        return self._scheduler.call(lambda: self._pool.place(adapter)).result()
