"""The one thread that runs the model, and what it does when."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from datasets_app.errors import InputError
from inference.engines.base import EngineBusy, EngineError
from inference.engines.in_process.jobs import Job
from inference.engines.in_process.runner import Runner
from inference.engines.in_process.waiting import Waiting
from inference.engines.in_process.watch import Watch
from inference.engines.in_process.worker import Worker, is_out_of_memory
from inference.engines.limits import Limits
from inference.engines.work import TOKENS_A_REQUEST

T = TypeVar("T")
logger = logging.getLogger(__name__)

FAILURES = 5  # in a row, after which the model has failed for good, as after an error of the GPU all passes do
CLOSED = "The engine is closed."


class Scheduler:
    """Continuous batching: requests are looked at, routed and join between two decoding steps of the others.

    A request that comes alone waits for nobody. While others decode, at most `Limits.joining` requests join
    together, and only after `Limits.steps` steps, so neither the old nor the new ones starve. Fewer join where their
    prompts are long, so that no step is longer than one for as many usual prompts, or for one long one. A model that
    has failed for good is given up where there is a `failed`, which is called then, in the scheduler's thread, to start
    it anew.
    """

    def __init__(self, runner: Runner, worker: Worker, limits: Limits, failed: Callable[[], object] | None) -> None:
        self._failed = failed
        self._runner = runner
        self._worker = worker
        self._limits = limits
        self._changed = threading.Condition()
        self._waiting = Waiting()
        self._preparing: Counter[str] = Counter()  # places by deployment
        self._watch = Watch(limits.stall_s)
        self._calls: deque[tuple[Callable[[], Any], int, Future[Any]]] = deque()
        self._closed = ""  # why, once it is
        self._steps = 0  # since requests last joined
        self._thread = threading.Thread(target=self._loop, name="model-owner", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Places that are taken in the queue: by requests that are prepared, that wait, or that lack memory."""
        with self._changed:
            return self._total()

    @property
    def is_stalled(self) -> bool:
        """Whether a step of the model takes far longer than it should."""
        return self._watch.is_stalled

    def reserve(self, job: Job) -> None:
        """Take the job's places in the queue until `arrive` or `refuse` names it; EngineBusy if too few are left.

        A deployment that has no place finds one beside those of others however many they are: none keeps another out.
        """
        deployment = job.deployment.digest
        with self._changed:
            self._check_open()
            total, mine = self._total(), self._preparing[deployment] + self._waiting.held[deployment]
            wanted = max(1, min(job.places, self._limits.queue))
            if total + wanted > self._limits.queue and (mine or not total):
                raise EngineBusy("The engine's queue is full: try again later.")
            self._preparing[deployment] += job.places

    def check(self, job: Job) -> None:
        """Raise why the job, which has a place, need not be prepared any more."""
        with self._changed:
            self._check_open()
        if job.future.cancelled():
            raise CancelledError
        if time.monotonic() > job.deadline:
            raise self._limits.late

    def arrive(self, job: Job) -> None:
        """Let the job wait in the place that was taken for it."""
        try:
            self.submit([job], reserved=True)
        except EngineError as error:
            self._worker.fail(job, error)

    def refuse(self, job: Job, error: Exception) -> None:
        """End the job, and free the place that was taken for it."""
        with self._changed:
            self._preparing -= Counter({job.deployment.digest: job.places})
        self._worker.fail(job, error)

    def step_out(self, job: Job) -> None:
        """Keep a place for a job that leaves the model to be prepared again; `arrive` or `refuse` will name it."""
        with self._changed:
            self._preparing[job.deployment.digest] += job.places

    def submit(self, jobs: Sequence[Job], reserved: bool = False) -> None:
        """Queue the jobs all at once, in places that were taken for them or however many wait; EngineError after
        `close`.
        """
        with self._changed:
            if reserved:
                for job in jobs:
                    self._preparing -= Counter({job.deployment.digest: job.places})
            self._check_open()
            for job in jobs:
                self._waiting.put(job)
            self._changed.notify()

    def call(self, work: Callable[[], T], tokens: int = 0) -> Future[T]:
        """Run `work`, which reads so many tokens of prompts, on the model's thread between two steps.

        EngineError after `close`.
        """
        future: Future[T] = Future()
        with self._changed:
            self._check_open()
            self._calls.append((work, tokens, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Finish what is being answered, refuse what still waits, end the thread."""
        with self._changed:
            self._closed = self._closed or CLOSED
            self._changed.notify()
        self._thread.join()

    def _total(self) -> int:
        returning = sum(job.places for job in self._worker.returning)
        return self._preparing.total() + self._waiting.places + returning

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(self._closed)

    def _loop(self) -> None:
        with self._runner.serving():
            while self._sleep():
                try:
                    self._turn()
                except Exception as error:  # The thread must not die: everybody would wait for ever.
                    self._worker.abandon(error)
                if self._failed and self._worker.failures >= FAILURES and not self._closed:
                    self._give_up(self._failed)

    def _give_up(self, failed: Callable[[], object]) -> None:
        reason = f"The model failed {FAILURES} times in a row: the engine must be started anew."
        logger.critical(reason)
        with self._changed:
            self._closed = reason
        failed()

    def _turn(self) -> None:
        with self._changed:
            calls, self._calls = self._calls, deque()
        for work, tokens, future in calls:
            with self._watch.step(tokens):
                self._worker.failures += _fails(work, future)
        self._drop_ended()
        if jobs := self._joining():
            for job in jobs:
                job.mark("queue")
            with self._watch.step(2 * sum(job.work for job in jobs)):  # The router reads, then the expert.
                self._worker.serve(jobs)
            self._steps = 0
        if self._worker.running:
            with self._watch.step():
                self._worker.step()
            self._steps += 1

    def _sleep(self) -> bool:
        """Wait for something to do; False if there is nothing left to do."""
        with self._changed:
            while True:
                busy = bool(self._worker.running or self._worker.returning or self._calls)
                if self._closed and len(self._waiting):
                    refused = self._waiting.remove(lambda _: True)
                    break
                if busy or len(self._waiting):
                    return True
                if self._closed:
                    return False
                self._changed.wait()
        for job in refused:
            self._worker.fail(job, EngineError(self._closed))
        return True

    def _drop_ended(self) -> None:
        now = time.monotonic()
        with self._changed:
            ended = self._waiting.remove(lambda job: job.future.cancelled() or now > job.deadline)
        for job in ended:
            self._worker.fail(job, self._limits.late)
        self._worker.drop_ended()

    def _joining(self) -> list[Job]:
        """The jobs that join now, those that lost their row before all others."""
        worker = self._worker
        if worker.running and self._steps < self._limits.steps:
            return []
        count = min(self._limits.joining, worker.batch) if worker.running else worker.batch
        places = max(0, worker.batch - len(worker.running))
        jobs = worker.returning[: min(count, places)]
        worker.returning = worker.returning[len(jobs) :]
        with self._changed:
            tokens = count * TOKENS_A_REQUEST - sum(job.work for job in jobs)
            return jobs + self._waiting.take(count - len(jobs), places - len(jobs), tokens)


def _fails(work: Callable[[], Any], future: Future[Any]) -> bool:
    """Do the work; whether it failed for another reason than what was asked for, or memory."""
    if not future.set_running_or_notify_cancel():
        return False
    try:
        future.set_result(work())
    except (InputError, EngineError) as error:
        future.set_exception(error)
    except Exception as error:
        logger.exception("The engine's thread failed at a call")
        failure = EngineError(f"The model step failed: {type(error).__name__}.")
        failure.__cause__ = error
        future.set_exception(failure)
        return not is_out_of_memory(error)
    return False
