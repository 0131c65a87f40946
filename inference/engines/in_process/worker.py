"""The model's side of a request: look, route, begin to answer, one token after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import torch

from datasets_app.errors import InputError
from inference.engines.base import EngineError
from inference.engines.chat import Completion
from inference.engines.in_process.batch import Batch, View, look
from inference.engines.in_process.jobs import Job, Role
from inference.engines.in_process.keys_values import KeysValues
from inference.engines.in_process.lora import LoraSlots, Rows
from inference.engines.in_process.passes import choose, name_log_likelihoods, prefill, step
from inference.engines.in_process.pool import AdapterPool
from inference.engines.in_process.prefixes import Continuation, invoked_at, join, read
from inference.engines.in_process.prompts import Pixels
from inference.engines.in_process.proof import Prover
from inference.engines.in_process.receipts import Receipts
from inference.engines.in_process.runner import Runner
from inference.engines.in_process.text import TextStream
from inference.engines.limits import Limits
from inference.engines.types import Decision, StackedResult, TextDelta
from inference.routing.scoring import best, probabilities
from inference.routing.tool_call import parse_tool_call

logger = logging.getLogger(__name__)

LACK = (
    "can't allocate memory",  # a CPU's allocator
    "CUDA error: out of memory",  # the driver: streams, events, graphs, kernels that are loaded late
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",  # cuDNN, where there is room for no workspace
)
CALM = 256  # steps after which a batch that memory was too small for is tried again


class Worker:
    """Runs jobs on one model, many at a time. One thread, that of the scheduler, calls it.

    `running` are the jobs that are being decoded, in the order of their rows; `returning` those that lost their row,
    or found none, when memory ran out. At most `batch` rows are decoded at once, fewer than the limit for a while
    after that.
    """

    def __init__(
        self,
        runner: Runner,
        slots: LoraSlots,
        pool: AdapterPool,
        prover: Prover,
        receipts: Receipts,
        limits: Limits,
    ) -> None:
        self.batch = limits.batch
        self._limits = limits
        self.failures = 0  # in a row; memory that ran out is none
        self._calm = 0  # steps since memory ran out
        self.running: list[Job] = []
        self.returning: list[Job] = []
        self._runner = runner
        self._slots = slots
        self._pool = pool
        self._prover = prover
        self._receipts = receipts
        self._kept = KeysValues()
        self._rows: Rows | None = None

    # Between the steps

    def drop_ended(self) -> None:
        """Free the rows of jobs that were cancelled, whose time is up, or whose adapter is out of service."""
        for row in reversed(range(len(self.running))):
            if self._ended(self.running[row]):
                self._leave(row)
        self.returning = [job for job in self.returning if not self._ended(job)]

    def _ended(self, job: Job) -> bool:
        if job.future.cancelled():
            self._close(job)
            return True
        if time.monotonic() > job.deadline:
            if job.tokens:
                self._conclude(job, "deadline")
            else:
                self.fail(job, self._limits.late)
            return True
        return not self._in_service(job, job.expert or job.deployment.first)

    def fail(self, job: Job, error: Exception) -> None:
        """End the job with an error."""
        if self._close(job) and job.future.set_running_or_notify_cancel():
            job.future.set_exception(error)

    def _finish(self, job: Job, result: object) -> None:
        if self._close(job) and job.future.set_running_or_notify_cancel():
            job.future.set_result(result)

    def _close(self, job: Job) -> bool:
        """Let go of the adapters of a job that ends; False if it had ended before."""
        if job.closed:
            return False
        job.closed = True
        job.prefix = None
        self._pool.unpin(job.deployment.digests)
        return True

    # From the screenshot to the first token

    def serve(self, jobs: Sequence[Job]) -> None:
        """Look, route and run the prompts of all jobs together; those that go on are `running` then.

        Where memory runs out fewer of them are tried at once, half as many each time. If there is none for a single one
        beside those that are running, it and all behind it wait for a row to leave; without those, it fails.
        """
        left, count = list(jobs), len(jobs)
        for job in jobs:
            job.away = False
        while left:
            lack = self._with_room(partial(self._serve, left[:count]))
            if lack is None:
                left = left[count:]
                continue
            left = self._unfinished(left)
            logger.warning("Memory ran out with %d requests at once", count)
            if count > 1:
                count //= 2
            elif self.running:
                self.batch, self._calm = len(self.running), 0
                self.returning = left + self.returning
                break
            else:
                self._fail_all(left[:1], lack)
                left = left[1:]
        for job in jobs:
            if job.future.cancelled() and not job.away and job not in self.running:
                self._close(job)

    def _serve(self, jobs: Sequence[Job]) -> Exception | None:
        """`serve` once; returns the error if memory ran out, bare of the failed pass, which it held in memory."""
        jobs = self._unfinished(jobs)
        try:
            self._look(jobs)
            self._begin(self._answering(self._routed(jobs)))
            if jobs:
                self.failures = 0
        except Exception as error:
            if is_out_of_memory(error):
                for job in jobs:
                    job.prefix = None
                return error.with_traceback(None)
            logger.exception("The model step failed")
            self.failures += 1
            self._fail_all(self._unfinished(jobs), error)
        return None

    def _unfinished(self, jobs: Sequence[Job]) -> list[Job]:
        return [job for job in jobs if not (job.future.done() or job.away or job in self.running)]

    def _fail_all(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            failure = EngineError(f"The model step failed: {type(error).__name__}.")
            failure.__cause__ = error.with_traceback(None)  # which would hold the failed pass in memory
            self.fail(job, failure)

    def _look(self, jobs: Sequence[Job]) -> None:
        blind = [(job, job.pixels) for job in jobs if job.pixels is not None]
        if blind:
            for (job, _), view in zip(blind, self._views([pixels for _, pixels in blind]), strict=True):
                job.view, job.pixels = view, None
                job.mark("vision")

    def _views(self, pixels: Sequence[Pixels]) -> list[View]:
        return look(self._runner.model, pixels)

    def _routed(self, jobs: Sequence[Job]) -> list[Job]:
        """Let the routers decide; returns the jobs that want an answer from an expert."""
        asking = [job for job in jobs if job.deployment.router and job.decision is None]
        asking = [job for job in asking if self._in_service(job, job.deployment.first)]
        for group, rows, batch in self._reading([(job, job.deployment.first) for job in asking]):
            tries = [job.deployment.trie for job in group if job.deployment.trie]
            with self._slots.use(rows):
                scores = name_log_likelihoods(self._runner.model, batch, tries)
            for job, row in zip(group, scores, strict=True):
                self._decide(job, row.tolist())
        return [job for job in jobs if not job.future.done()]

    def _decide(self, job: Job, scores: list[float]) -> None:
        router = job.deployment.first
        job.mark("route")
        try:
            chances = probabilities(dict(zip(router.card.labels, scores, strict=True)))
        except ValueError:
            self._fail_without_numbers(job, router)
            return
        label = best(chances)
        job.expert = job.deployment.experts.get(label)
        chosen = job.expert.ref if job.expert else None
        receipt = self._receipts.write(job, label)
        job.decision = Decision(label, chosen, chances, router.ref, job.deployment.digest, job.told_timings, receipt)
        job.tell(job.decision)
        if not job.answers:
            self._finish(job, job.decision)
        elif job.expert is None:
            self._finish(job, StackedResult(job.decision, "", None, 0, "none", job.told_timings, receipt.answered("")))

    def _answering(self, jobs: Sequence[Job]) -> list[Job]:
        """Let every job read what its expert was trained to; one that must see otherwise goes to be prepared again."""
        ready = []
        for job in jobs:
            expert = job.expert = job.expert or job.deployment.first
            if not self._in_service(job, expert):
                continue
            if job.see_again and expert.budget != job.budget:
                job.view = job.prefix = None
                job.see_again()
                job.away = True
                continue
            try:
                if job.decision and not job.tokens:
                    assert job.view is not None  # noqa: S101 - it was looked at
                    job.prompt = self._runner.prompts.ids(expert.card, job.words, job.view.grid)
                    self._runner.check_length(job.prompt, job.max_tokens)
            except InputError as error:
                self.fail(job, error)
            else:
                ready.append(job)
        return ready

    def _begin(self, jobs: Sequence[Job]) -> None:
        """Run the prompts."""
        for group, rows, batch in self._reading([(job, _expert(job)) for job in jobs]):
            with self._slots.use(rows):
                prefilled = prefill(self._runner.model, batch)
            starts = batch.next_position[:, 0].tolist()
            for row, (job, token) in enumerate(zip(group, choose(prefilled.logits), strict=True)):
                job.mark("prefill")
                job.start, job.fed, job.prefix, job.see_again = starts[row], 0, None, None
                if self._goes_on(job, token):
                    self._kept.join(prefilled.cache, row, len(job.prompt))
                    self.running.append(job)
                    self._rows = None

    def _reading(self, jobs: Sequence[tuple[Job, Role]]) -> Iterator[tuple[list[Job], Rows, Batch]]:
        """What the adapters are to read, in at most two passes: plain ones everything, activated ones what comes
        behind the prefixes, which are read here.
        """
        for activated in (False, True):
            group = [(job, role) for job, role in jobs if bool(role.card.invocation) == activated]
            if not group:
                continue
            mine = [job for job, _ in group]
            if activated:
                self._read_prefixes(group)
                continued = [Continuation(role.card, job.prompt, job.prefix) for job, role in group if job.prefix]
                batch = join(continued, self._runner.model.device)
            else:
                batch = self._runner.collate([job.prompt for job in mine], [job.view for job in mine if job.view])
            yield mine, self._slots.rows([self._pool.slot(role.ref.digest) for _, role in group]), batch

    def _read_prefixes(self, jobs: Sequence[tuple[Job, Role]]) -> None:
        """Let the base alone read what no router of the same words and pixels has had read already."""
        missing = []
        for job, role in jobs:
            ids = job.prompt[: invoked_at(role.card, job.prompt)]
            if job.view and not (job.prefix and job.prefix.ids == ids and job.prefix.view is job.view):
                missing.append((job, ids, job.view))
        if missing:
            prompts, views = [ids for _, ids, _ in missing], [view for _, _, view in missing]
            for (job, _, _), prefix in zip(missing, read(self._runner, self._slots, prompts, views), strict=True):
                job.prefix = prefix
                job.mark("prefill")

    # Decoding

    def step(self) -> None:
        """One more token for every running job; where memory runs out, half of them go on later."""
        if lack := self._with_room(self._step):
            self._yield_half(lack)

    def _step(self) -> Exception | None:
        jobs = self.running
        try:
            self._rows = self._rows or self._slots.rows([self._pool.slot(_expert(job).ref.digest) for job in jobs])
            with self._slots.use(self._rows):
                fed = [job.tokens[job.fed] for job in jobs]
                logits = step(self._runner.model, fed, [job.start + job.fed for job in jobs], self._kept)
                tokens = choose(logits)
        except Exception as error:
            if is_out_of_memory(error):
                return error.with_traceback(None)
            self.abandon(error)
            return None
        self.failures = 0
        self._grow()
        for row in reversed(range(len(jobs))):
            jobs[row].fed += 1
            if not self._goes_on(jobs[row], tokens[row]):
                self._leave(row)
        return None

    def _goes_on(self, job: Job, token: int | None) -> bool:
        """Take the token; False if the job has ended with it."""
        expert = _expert(job)
        if token is None:
            self._fail_without_numbers(job, expert)
            return False
        if job.fed < len(job.tokens):  # It begins again, and still reads what it answered before.
            return True
        if token not in self._runner.ends:
            job.tokens.append(token)
            if job.on_event and (text := self._stream(job).push(token)):
                job.tell(TextDelta(text))
            if len(job.tokens) < job.max_tokens:
                return True
        self._conclude(job, "stop" if token in self._runner.ends else "length")
        return False

    def _conclude(self, job: Job, reason: str) -> None:
        """End the job with the answer as it is."""
        if job.on_event and (text := self._stream(job).rest()):
            job.tell(TextDelta(text))
        job.mark("decode")
        text, tokens = self._runner.prompts.text(job.tokens), len(job.tokens)
        receipt = self._receipts.answered(job, text, reason)
        if job.decision is None:
            self._finish(job, Completion(text, tokens, reason, len(job.prompt), receipt))
        else:
            call, told = parse_tool_call(text), job.told_timings
            self._finish(job, StackedResult(job.decision, text, call, tokens, reason, told, receipt))

    def _stream(self, job: Job) -> TextStream:
        job.text = job.text or TextStream(self._runner.prompts)
        return job.text

    def _fail_without_numbers(self, job: Job, role: Role) -> None:
        """Withdraw the adapter only if it gives no numbers for its canaries either: the image may be to blame."""
        if not self._in_service(job, role):
            return
        try:
            sound = self._prover.gives_numbers(role.card, self._pool.slot(role.ref.digest))
        except Exception:
            logger.exception("The adapter %s could not be asked its canaries", role.ref.name)
            sound = True
        if sound:
            self.fail(job, EngineError("The model gives no numbers for this request."))
            return
        self._pool.withdraw(role.ref.digest, "its values are no numbers")
        logger.error("The adapter %s (%s) gives no numbers: it is out of service", role.ref.name, role.ref.digest)
        self._in_service(job, role)

    def _in_service(self, job: Job, role: Role) -> bool:
        """Whether the adapter may answer; if not, the job has failed."""
        try:
            self._pool.check(role.ref.digest)
        except EngineError as error:
            self.fail(job, error)
            return False
        return True

    def _yield_half(self, error: Exception) -> None:
        """Go on with half the rows; the younger half begins again, reading the tokens it has, when there is room."""
        logger.warning("Memory ran out while decoding %d requests at once", len(self.running))
        older, younger = self.running[: len(self.running) // 2], self.running[len(self.running) // 2 :]
        if not older:
            self.abandon(error)
            return
        self.batch, self._calm = len(older), 0
        for row in reversed(range(len(older), len(self.running))):
            self.running[row].mark("decode")
            self._leave(row)
        self.returning += younger

    def _with_room(self, work: Callable[[], Exception | None]) -> Exception | None:
        """What `work` returns, which is done once more if it lacked memory that rows which have left still held."""
        lack = work()
        return work() if lack and self._trimmed() else lack

    def _trimmed(self) -> bool:
        with suppress(Exception):  # Whatever it is, the next pass meets it, too.
            return self._kept.trim()
        return False

    def _grow(self) -> None:
        """After enough steps without want, let twice as many requests be answered at once, up to the limit."""
        self._calm += 1
        if self._calm >= CALM and self.batch < self._limits.batch:
            self.batch, self._calm = min(self._limits.batch, 2 * self.batch), 0

    def _leave(self, row: int) -> None:
        self._kept.leave(row)
        self.running[row] = self.running[-1]
        self.running.pop()
        self._rows = None

    def abandon(self, error: Exception) -> None:
        """Fail every running job and begin anew."""
        logger.error("The model step failed", exc_info=error)
        self.failures += not is_out_of_memory(error)
        jobs, self.running, self._kept, self._rows = self.running, [], KeysValues(), None
        self._fail_all(jobs, error)


def _expert(job: Job) -> Role:
    assert job.expert is not None  # noqa: S101 - who gets here has one
    return job.expert


def is_out_of_memory(error: Exception) -> bool:
    """Whether it is, by the type of torch's allocators or by the words of what allocates past them.

    None of these says that a GPU is broken; whoever has them alone for another reason fails alone.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in LACK)
