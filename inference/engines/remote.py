"""The engine in another process, reached over HTTP; no torch on this side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx

from datasets_app.text import without_user
from inference.engines import multipart, wire
from inference.engines.base import EngineError
from inference.engines.streams import lines
from inference.engines.types import Decision, Request, StackedResult, StackSpec, StreamEvent

CONNECT_S = 5.0
ANSWER_S = 180.0  # a full queue and one long answer
JSON = "application/json"
DEPLOY_S = 600.0  # adapters of gigabytes from a cold disk

T = TypeVar("T")


class RemoteEngine:
    """Implements `inference.engines.base.Engine` against `python -m inference.server` at `url`.

    Safe to call from any thread. Raises what the engine there raises, and EngineError if it cannot be reached.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = without_user(url.rstrip("/"))
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=None),  # How many requests there may be is the engine's to say.
            trust_env=False,  # A proxy has no business between two of our processes.
        )

    def deploy(self, stack: StackSpec) -> None:
        """Load every adapter of the stack; idempotent."""
        self._call("POST", "/deploy", wire.dump_stack(stack), JSON, DEPLOY_S)

    def route(self, request: Request) -> Decision:
        """Decide which expert should answer."""
        return _read(wire.load_decision, self._ask("/route", request))

    def infer(self, request: Request) -> StackedResult:
        """Route, then generate with the chosen expert."""
        return _read(wire.load_result, self._ask("/infer", request))

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """`infer` as it happens; closing the iterator ends the request there, too."""
        body = wire.dump_request(request)
        headers = {"Content-Type": multipart.content_type(body)}
        with self._reaching(), self._client.stream("POST", "/stream", content=body, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                raise wire.load_error(response.status_code, response.read())
            for line in lines(response.iter_bytes()):
                event = _read(wire.load_event, line)
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, StackedResult):
                    return
        raise EngineError(f"The engine at {self._url} broke the connection off.")

    def status(self) -> dict[str, object]:
        """The engine's status there."""
        return _read(lambda data: dict(json.loads(data)), self._call("GET", "/status"))

    def close(self) -> None:
        """Close the connections; the engine there goes on."""
        self._client.close()

    def _ask(self, path: str, request: Request) -> bytes:
        body = wire.dump_request(request)
        return self._call("POST", path, body, multipart.content_type(body))

    def _call(
        self, method: str, path: str, body: bytes | None = None, kind: str = JSON, timeout: float = ANSWER_S
    ) -> bytes:
        limits, headers = httpx.Timeout(timeout, connect=CONNECT_S), {"Content-Type": kind}
        with self._reaching():
            response = self._client.request(method, path, content=body, headers=headers, timeout=limits)
        if response.status_code != httpx.codes.OK:
            raise wire.load_error(response.status_code, response.content)
        return response.content

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise EngineError(f"The engine is not running at {self._url}.") from error
        except httpx.TimeoutException as error:
            raise EngineError(f"The engine at {self._url} did not answer in time.") from error
        except httpx.HTTPError as error:
            raise EngineError(f"The engine at {self._url} broke the connection off.") from error


def _read(load: Callable[[bytes], T], data: bytes) -> T:
    try:
        return load(data)
    except (ValueError, RecursionError) as error:
        raise EngineError("The engine answered something else than was asked for.") from error
