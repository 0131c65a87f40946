"""A streamed answer as server-sent events: `decision`, any number of `token`, then `result` or `error`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from django.http import StreamingHttpResponse

from inference.api.errors import SERVER_ERROR, Refusal, refusal_of
from inference.engines.streams import Begun
from inference.engines.types import Decision, Receipt, StackedResult

MEDIA_TYPE = "text/event-stream"
EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["decision", "token", "result", "error"]},
        "data": {"type": "string", "description": "JSON."},
    },
    "required": ["event", "data"],
}
"""An event as the schema describes it."""

logger = logging.getLogger(__name__)


def event_stream(events: Begun, closed: Callable[[], object]) -> StreamingHttpResponse:
    """The response; Django closes the events when they end or the client has left, and `closed` is called then."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(_Lines(events, closed), content_type=MEDIA_TYPE, headers=headers)


class _Lines(Iterator[bytes]):
    def __init__(self, events: Begun, closed: Callable[[], object]) -> None:
        self._events = events
        self._closed = closed
        self._failed = False

    def __next__(self) -> bytes:
        if self._failed:
            raise StopIteration
        try:
            event = next(self._events)
        except StopIteration:
            raise
        except Exception as error:
            self._failed = True
            return _line("error", _refusal(error).body())
        match event:
            case Decision():
                return _line("decision", decision_body(event))
            case StackedResult():
                return _line("result", answer_body(event))
        return _line("token", {"text": event.text})

    def close(self) -> None:
        try:
            self._events.close()
        finally:
            self._closed()


def _refusal(error: Exception) -> Refusal:
    refusal = refusal_of(error)
    if refusal is None:
        logger.exception("A stream failed")
        return SERVER_ERROR
    return refusal


def _line(event: str, data: dict[str, Any]) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def decision_body(decision: Decision) -> dict[str, Any]:
    """A decision as the API shows it."""
    expert = decision.adapter
    return {
        "label": decision.label,
        "adapter": expert.name if expert else None,
        "version": expert.digest if expert else None,
        "probabilities": decision.probabilities,
        "router": decision.router.digest,
        "stack": decision.stack,
        "timings": decision.timings,
        "receipt": _receipt_body(decision.receipt),
    }


def answer_body(result: StackedResult) -> dict[str, Any]:
    """An answer as the API shows it."""
    return {
        **decision_body(result.decision),
        "text": result.text,
        "tool_call": result.tool_call,
        "tokens": result.tokens,
        "finish_reason": result.finish_reason,
        "timings": result.timings,
        "receipt": _receipt_body(result.receipt),
    }


def _receipt_body(receipt: Receipt | None) -> dict[str, Any] | None:
    return asdict(receipt) if receipt else None
