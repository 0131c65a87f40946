"""The one thread that owns the model, and the bounded queue before it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass
from typing import Any, TypeVar

from datasets_app.errors import InputError
from inference.engines.base import EngineBusy, EngineError

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ticket:
    """One piece of work in the queue; `work` is called with the milliseconds it waited there."""

    work: Callable[[float], Any]
    future: Future[Any]
    queued_at: float


class Owner:
    """Runs work one piece after the other: the active adapter is a state of the model that threads can't share.

    At most `capacity` pieces wait. A future that is cancelled before its turn is dropped.
    """

    def __init__(self, capacity: int) -> None:
        self._queue: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._places = threading.BoundedSemaphore(capacity)
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="model-owner", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[float], T]) -> Future[T]:
        """Queue the work; EngineBusy if the queue is full, EngineError after `close`."""
        if not self._places.acquire(blocking=False):
            raise EngineBusy("The engine's queue is full: try again later.")
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                self._places.release()
                raise EngineError("The engine is closed.")
            self._queue.put(Ticket(work, future, time.perf_counter()))
        return future

    @property
    def waiting(self) -> int:
        """How many pieces of work are queued."""
        return self._queue.qsize()

    def close(self) -> None:
        """Finish the piece of work at hand, cancel the others, end the thread."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (ticket := self._queue.get()) is not None:
            self._places.release()
            if self._closed:
                ticket.future.cancel()
            elif ticket.future.set_running_or_notify_cancel():
                _run(ticket)


def _run(ticket: Ticket) -> None:
    try:
        result = ticket.work((time.perf_counter() - ticket.queued_at) * 1000)
    except (InputError, EngineError) as error:
        ticket.future.set_exception(error)
    except Exception as error:
        logger.exception("The model step failed")
        failure = EngineError(f"The model step failed: {type(error).__name__}.")
        failure.__cause__ = error
        ticket.future.set_exception(failure)
    else:
        ticket.future.set_result(result)


def wait(future: Future[T], deadline_s: float | None) -> T:
    """The future's result; EngineBusy if its turn did not come within `deadline_s` seconds."""
    try:
        return future.result(timeout=deadline_s)
    except TimeoutError as error:
        if future.cancel():
            raise EngineBusy(f"The request waited {deadline_s} s in the engine's queue.") from error
        return future.result()
