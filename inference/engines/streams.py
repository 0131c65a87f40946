"""Streams: one that has begun, one whose events another thread tells, and the lines of one on the wire."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

from inference.engines.types import StackedResult, StreamEvent


class Begun(Iterator[StreamEvent]):
    """The events of an engine's stream, the first of which is waited for at once: what fails before it fails here."""

    def __init__(self, events: Iterator[StreamEvent]) -> None:
        self._events = events
        self._first: StreamEvent | None = next(events)

    def __next__(self) -> StreamEvent:
        """The next event."""
        first, self._first = self._first, None
        return next(self._events) if first is None else first

    def close(self) -> None:
        """End the request, read or not."""
        if hasattr(self._events, "close"):
            self._events.close()


def told(submit: Callable[[Callable[[StreamEvent], None]], Future[StackedResult]]) -> Iterator[StreamEvent]:
    """What `submit`'s listener is told, last the future's result. Closing the iterator, a generator, cancels it."""
    events: queue.SimpleQueue[StreamEvent | None] = queue.SimpleQueue()
    future = submit(events.put)
    future.add_done_callback(lambda _: events.put(None))
    try:
        while (event := events.get()) is not None:
            yield event
        yield future.result()
    finally:
        future.cancel()


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    r"""What `\n` ends, and what is left. Nothing else ends a line: JSON leaves U+2028 and others as they are."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest
