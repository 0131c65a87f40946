"""A stream that has begun."""

from __future__ import annotations

from collections.abc import Iterator

from inference.engines.types import StreamEvent


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
