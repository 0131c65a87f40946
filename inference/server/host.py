"""The engine while it loads, while it runs, and its futures as seen from an event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from datasets_app.errors import InputError
from inference.engines.base import EngineBusy
from inference.engines.types import Decision, Request, StackedResult, StackSpec

T = TypeVar("T")
logger = logging.getLogger(__name__)


class HostedEngine(Protocol):
    """An engine whose calls are futures; a future cancelled before its turn costs nothing."""

    def submit_deploy(self, stack: StackSpec) -> Future[None]:
        """Queue a deployment."""

    def submit_route(self, request: Request) -> Future[Decision]:
        """Queue a decision."""

    def submit_infer(self, request: Request) -> Future[StackedResult]:
        """Queue an answer."""

    def status(self) -> dict[str, object]:
        """What the engine holds."""

    def close(self) -> None:
        """Free it."""


class Host:
    """Loads the engine in the background; `failed` is called, in the loading thread, if that fails."""

    def __init__(self, load: Callable[[], HostedEngine], failed: Callable[[], None], deadline_s: float = 60.0) -> None:
        self._load = load
        self._failed = failed
        self._deadline_s = deadline_s
        self._engine: HostedEngine | None = None

    def start(self) -> None:
        """Begin to load. The thread is a daemon: whoever stops the process needn't wait for it."""
        threading.Thread(target=self._run, name="engine-loader", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._engine is not None

    @property
    def engine(self) -> HostedEngine:
        """The engine; EngineBusy while it loads."""
        if self._engine is None:
            raise EngineBusy("The engine is still loading its model.")
        return self._engine

    async def call(self, submit: Callable[[], Future[T]], deadline: bool = True) -> T:
        """The result of the future that `submit` returns, called in another thread because it decodes images.

        EngineBusy if its turn does not come before the deadline. A caller that is cancelled takes its work
        out of the queue.
        """
        submitting = asyncio.ensure_future(asyncio.to_thread(submit))
        try:
            future = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            submitting.add_done_callback(_cancel)
            raise
        wrapped = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait({wrapped}, timeout=self._deadline_s if deadline else None)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if not done and future.cancel():
            raise EngineBusy(f"The request waited {self._deadline_s:.0f} s in the engine's queue.")
        return await wrapped

    def close(self) -> None:
        """Free the engine."""
        if self._engine is not None:
            self._engine.close()

    def _run(self) -> None:
        try:
            self._engine = self._load()
            logger.info("The engine is ready")
        except InputError as error:
            logger.error("The engine could not be loaded: %s", error)
            self._failed()
        except Exception:
            logger.exception("The engine could not be loaded")
            self._failed()


def _cancel(submitting: asyncio.Future[Future[T]]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()
