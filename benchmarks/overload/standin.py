"""The engine's own server, queue and preparation around a model that sleeps: `… standin PORT SECONDS`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any

import torch
from aiohttp import web

from adapters.card import AdapterCard
from inference.engines.base import EngineError
from inference.engines.in_process.jobs import Deployment, Job, Role
from inference.engines.in_process.preparation import Preparation
from inference.engines.in_process.prompts import Pixels
from inference.engines.in_process.scheduler import Scheduler
from inference.engines.limits import Limits
from inference.engines.types import AdapterRef, Decision, Request, StackedResult, StackSpec, StreamEvent
from inference.server.app import build_app
from inference.server.host import Host

TOKEN = "SWITCHYARD_ENGINE_TOKEN"  # noqa: S105 - the variable's name
STEP_S = 0.01
PROMPT_TOKENS = 1_280  # as a screenshot of 1920 x 1080 has
ROUTER = AdapterRef("router", "sha256:router")
CARD = AdapterCard(kind="router", base="base", min_pixels=1024, max_pixels=1024, labels=("none",))


class Model:
    """What preparation and scheduler ask of runner, prompts and pool."""

    @property
    def prompts(self) -> Model:
        """This."""
        return self

    def serving(self) -> nullcontext[None]:
        """Nothing to change."""
        return nullcontext()

    def pixels(self, *_: object) -> Pixels:
        """None: the picture was decoded, that is all."""
        return Pixels(torch.zeros(1), torch.ones(1, 3))

    def turns_ids(self, *_: object) -> list[int]:
        """A usual prompt."""
        return [0] * PROMPT_TOKENS

    def check_length(self, *_: object) -> None:
        """It fits."""

    def check(self, *_: object) -> None:
        """It is in service."""

    def unpin(self, *_: object) -> None:
        """Nothing is held."""


class Worker:
    """A batch of rows, each of which is answered after `seconds`."""

    def __init__(self, limits: Limits, seconds: float) -> None:
        self.batch, self.failures = limits.batch, 0
        self.running: list[Job] = []
        self.returning: list[Job] = []
        self._limits, self._seconds = limits, seconds
        self._ends: dict[int, float] = {}

    def serve(self, jobs: Sequence[Job]) -> None:
        """Begin to answer."""
        self.running += jobs
        self._ends |= {id(job): time.monotonic() + self._seconds for job in jobs}

    def step(self) -> None:
        """Answer those whose time has come."""
        time.sleep(STEP_S)
        for job in [job for job in self.running if time.monotonic() >= self._ends[id(job)]]:
            decision = Decision("none", None, {"none": 1.0}, ROUTER, job.deployment.digest)
            result = StackedResult(decision, "", None, 0, "none", {})
            self._end(job, lambda future, result=result: future.set_result(result))

    def drop_ended(self) -> None:
        """Leave out whoever has left or is late."""
        for job in [job for job in self.running if job.future.cancelled() or time.monotonic() > job.deadline]:
            self.fail(job, self._limits.late)

    def fail(self, job: Job, error: Exception) -> None:
        """End it with an error."""
        self._end(job, lambda future: future.set_exception(error))

    def abandon(self, error: Exception) -> None:
        """End all with an error."""
        for job in list(self.running):
            self.fail(job, EngineError(str(error)))

    def _end(self, job: Job, settle: Callable[[Future[Any]], None]) -> None:
        self._ends.pop(id(job), None)
        self.running = [other for other in self.running if other is not job]
        if not job.future.done() and job.future.set_running_or_notify_cancel():
            settle(job.future)


class StandIn:
    """Implements `inference.server.host.HostedEngine`."""

    is_stalled = False

    def __init__(self, limits: Limits, seconds: float) -> None:
        model: Any = Model()
        worker: Any = Worker(limits, seconds)
        self.places, self.deadline_s = limits.queue + limits.batch, limits.deadline_s
        self._scheduler = Scheduler(model, worker, limits, None)
        self._preparation = Preparation(model, model, self._scheduler, limits.deadline_s)

    def deploy(self, stack: StackSpec) -> None:
        """Nothing to load."""

    def submit_route(self, request: Request) -> Future[Decision]:
        """As `submit_infer`: only answers are asked for here."""
        raise EngineError("The stand-in only answers.")

    def submit_infer(self, request: Request) -> Future[StackedResult]:
        """Answer after a while."""
        role = Role(ROUTER, CARD, "template", True)
        return self._preparation.submit(request, Deployment(request.stack, role, {}))

    def submit_stream(self, request: Request, on_event: Callable[[StreamEvent], None]) -> Future[StackedResult]:
        """The same, told at the end."""
        return self.submit_infer(request)

    def status(self) -> dict[str, object]:
        """How many wait."""
        return {"waiting": self._scheduler.waiting}

    def close(self) -> None:
        """End the thread."""
        self._scheduler.close()
        self._preparation.close()


def main() -> None:
    """Serve until SIGTERM."""
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    engine = StandIn(Limits.from_env(on_gpu=False), seconds)
    web.run_app(
        build_app(Host(lambda: engine, lambda: None), os.environ[TOKEN]),
        host="127.0.0.1",
        port=port,
        print=None,
        handler_cancellation=True,
        access_log=None,
    )


if __name__ == "__main__":
    main()
