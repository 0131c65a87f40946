"""From a request to a job that can queue: checked, decoded and preprocessed, so that a broken one never does."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from inference.engines.base import EngineError
from inference.engines.chat import Chat, Turns
from inference.engines.checks import check_request
from inference.engines.images import decode
from inference.engines.in_process.jobs import Deployment, Job
from inference.engines.in_process.pool import AdapterPool
from inference.engines.in_process.prompts import Pixels
from inference.engines.in_process.runner import Runner
from inference.engines.in_process.scheduler import CLOSED, Scheduler
from inference.engines.types import Request, content_digest

THREADS = min(4, os.cpu_count() or 1)  # so many images are decoded at once, of up to 75 MB each


class Preparation:
    """Prepares jobs, a few at a time, in threads of its own. Any thread may call."""

    def __init__(self, runner: Runner, pool: AdapterPool, scheduler: Scheduler, deadline_s: float) -> None:
        self._runner = runner
        self._pool = pool
        self._scheduler = scheduler
        self._deadline_s = deadline_s
        self._threads = ThreadPoolExecutor(THREADS, "preparation")

    def submit(self, asked: Request | Chat, deployment: Deployment, **options: Any) -> Future[Any]:
        """Take a place in the queue, and go on in another thread; the deadline runs from now on.

        EngineBusy if there is no place; what else fails is the future's. The request owns the pins of the deployment.
        """
        job = Job(deployment, time.monotonic() + self._deadline_s, **options)
        try:
            self._scheduler.reserve(deployment.digest)
        except EngineError:
            self._pool.unpin(deployment.digests)
            raise
        try:
            self._threads.submit(self._arrive, job, asked)
        except RuntimeError:  # closed meanwhile
            self._scheduler.refuse(job, EngineError(CLOSED))
        return job.future

    def prepare(self, job: Job, asked: Request | Chat) -> None:
        """Fill in what was asked, for every pixel budget; InputError if it cannot be answered."""
        first = job.deployment.first
        self._pool.check(first.ref.digest)
        turns = asked.turns(first.card) if isinstance(asked, Chat) else Turns.of(first.card, asked.prompt)
        request = asked.request(turns) if isinstance(asked, Chat) else asked
        check_request(request)
        job.words, job.max_tokens = request.prompt, request.max_tokens
        job.image_digest = content_digest(request.image)
        job.pixels, job.others = self._seen(job, request.image)
        job.prompt = self._runner.prompts.turns_ids(turns, job.pixels.grid)
        trie = job.deployment.trie
        self._runner.check_length(job.prompt, trie.longest if trie else job.max_tokens)
        job.mark("preprocess")

    def close(self) -> None:
        """End the threads; what has not been prepared is refused, as the scheduler is closed."""
        self._threads.shutdown()

    def _arrive(self, job: Job, asked: Request | Chat) -> None:
        try:
            self._scheduler.check(job)
            self.prepare(job, asked)
        except Exception as error:
            self._scheduler.refuse(job, error)
        else:
            self._scheduler.arrive(job)

    def _seen(self, job: Job, image: bytes) -> tuple[Pixels, dict[tuple[int, int], Pixels]]:
        """The screenshot for the adapter that sees it first, and for those that may then answer."""
        decoded, first = decode(image), job.deployment.first
        others = {expert.budget for expert in job.deployment.experts.values()} if job.answers else set()
        of = self._runner.prompts.pixels
        return of(decoded, *first.budget), {budget: of(decoded, *budget) for budget in others - {first.budget}}
