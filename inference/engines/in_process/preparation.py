"""From a request to a job that can queue: checked, decoded and preprocessed, so that a broken one never does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from datasets_app.errors import InputError
from datasets_app.formats.pictures import decode
from inference.engines.base import EngineError
from inference.engines.chat import Chat, Turns
from inference.engines.checks import check_request
from inference.engines.in_process.jobs import Deployment, Job
from inference.engines.in_process.pool import AdapterPool
from inference.engines.in_process.runner import Runner
from inference.engines.in_process.scheduler import CLOSED, Scheduler
from inference.engines.in_process.turns import FairThreads
from inference.engines.types import Request, content_digest
from inference.engines.work import places

LARGE = 4  # places, beyond which a picture is decoded one at a time, and keeps no other waiting
THREADS = min(4, os.cpu_count() or 1)  # so many images of new requests at once, and of others: up to 75 MB decoded


class Preparation:
    """Prepares jobs, a few at a time, in threads of its own. Any thread may call.

    A job whose expert sees the screenshot otherwise than its router did is prepared again once the expert is chosen,
    while the model goes on with others.
    """

    def __init__(self, runner: Runner, pool: AdapterPool, scheduler: Scheduler, deadline_s: float) -> None:
        self._runner = runner
        self._pool = pool
        self._scheduler = scheduler
        self._deadline_s = deadline_s
        self._threads = FairThreads(THREADS, "preparation")
        self._large = FairThreads(1, "preparation-large")
        self._again = FairThreads(THREADS, "preparation-again")  # waits for nobody who has just come

    def submit(self, asked: Request | Chat, deployment: Deployment, **options: Any) -> Future[Any]:
        """Take a place in the queue, and go on in another thread; the deadline runs from now on.

        InputError for an image that is refused by its header, EngineBusy if there is no place; what else fails is the
        future's. The request owns the pins of the deployment.
        """
        deadline = time.monotonic() + self._deadline_s - asked.waited_s
        try:
            job = Job(deployment, deadline, asked.client, places(asked.image), **options)
            self._scheduler.reserve(job)
        except (InputError, EngineError):
            self._pool.unpin(deployment.digests)
            raise
        try:
            threads = self._large if job.places > LARGE else self._threads
            threads.submit(job.client, job.places, partial(self._arrive, job, partial(self.prepare, job, asked)))
        except RuntimeError:  # closed meanwhile
            self._scheduler.refuse(job, EngineError(CLOSED))
        return job.future

    def prepare(self, job: Job, asked: Request | Chat) -> None:
        """Fill in what was asked, for the adapter that sees it first; InputError if it cannot be answered."""
        first = job.deployment.first
        self._pool.check(first.ref.digest)
        turns = asked.turns(first.card) if isinstance(asked, Chat) else Turns.of(first.card, asked.prompt)
        request = asked.request(turns) if isinstance(asked, Chat) else asked
        check_request(request)
        job.words, job.max_tokens = request.prompt, request.max_tokens
        job.image_digest = content_digest(request.image)
        self._see(job, request.image, first.budget)
        assert job.pixels is not None  # noqa: S101 - just seen
        if job.answers and any(expert.budget != first.budget for expert in job.deployment.experts.values()):
            job.see_again = partial(self._prepare_again, job, request.image)
        job.prompt = self._runner.prompts.turns_ids(turns, job.pixels.grid)
        trie = job.deployment.trie
        self._runner.check_length(job.prompt, trie.longest if trie else job.max_tokens)
        job.mark("preprocess")

    def close(self) -> None:
        """End the threads; what has not been prepared is refused, as the scheduler is closed."""
        self._threads.shutdown()
        self._large.shutdown()
        self._again.shutdown()

    def _prepare_again(self, job: Job, image: bytes) -> None:
        """Prepare the job for its expert in another thread, from where it goes back into the queue."""
        assert job.expert is not None  # noqa: S101 - it was chosen
        self._scheduler.step_out(job)
        see = partial(self._see, job, image, job.expert.budget)
        self._again.submit(job.client, job.places, partial(self._arrive, job, see))

    def _arrive(self, job: Job, prepare: Callable[[], None]) -> None:
        try:
            self._scheduler.check(job)
            prepare()
        except Exception as error:
            self._scheduler.refuse(job, error)
        else:
            self._scheduler.arrive(job)

    def _see(self, job: Job, image: bytes, budget: tuple[int, int]) -> None:
        job.budget, job.pixels = budget, self._runner.prompts.pixels(decode(image), *budget)
        job.mark("preprocess")
