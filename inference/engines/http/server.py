"""The server's protocol: requests, and its refusals as the engine's exceptions."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR
from threading import Timer
from typing import Any

import httpx

from datasets_app.errors import InputError
from datasets_app.text import without_user
from inference.engines import wire
from inference.engines.base import EngineBusy, EngineError, StackNotDeployed
from inference.engines.streams import lines

CONNECT_S = 5.0
LOAD_S = 600.0  # adapters of gigabytes from a cold disk
MAX_RETRY_S = 3600.0
MAX_MESSAGE = 300
DATA, DONE = b"data:", b"[DONE]"

logger = logging.getLogger(__name__)


class Late(EngineBusy):
    """The deadline came before the answer, or before its end."""

    def __init__(self) -> None:
        super().__init__("The engine did not answer in time: ask for fewer tokens, or later.")


class Failed(EngineError):  # noqa: N818
    """The server failed; `told` is what it said, which may be more than a client should know."""

    def __init__(self, message: str, told: str) -> None:
        super().__init__(message)
        self.told = told


class OpenAIServer:
    """The server at `url`. Safe to call from any thread.

    Answers are returned as they are parsed, whatever they hold. EngineError where the server cannot be reached or
    fails, EngineBusy where it has no time, StackNotDeployed where it does not know the model, InputError for what
    else it refuses.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = without_user(url.rstrip("/"))
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            limits=httpx.Limits(max_connections=None),  # How many requests there may be is the server's to say.
            trust_env=False,  # A proxy has no business between us and our engine.
        )

    def models(self) -> Any:
        """`GET /v1/models`."""
        return self._call("GET", "/v1/models", None, time.monotonic() + CONNECT_S).json()

    def load(self, name: str, path: str) -> None:
        """Serve the adapter in the server's folder `path` as the model `name`."""
        body = {"lora_name": name, "lora_path": path}
        self._call("POST", "/v1/load_lora_adapter", body, time.monotonic() + LOAD_S)

    def unload(self, name: str) -> None:
        """Serve the model `name` no longer."""
        self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, time.monotonic() + CONNECT_S)

    def complete(self, body: dict[str, Any], deadline: float) -> Any:
        """A whole answer, awaited until `deadline` (of time.monotonic())."""
        return self._call("POST", "/v1/chat/completions", body, deadline).json()

    def stream(self, body: dict[str, Any], deadline: float) -> Generator[Any]:
        """The chunks of an answer, until `deadline`. Whoever closes the iterator, a generator, ends the request."""
        options = body | {"stream": True, "stream_options": {"include_usage": True}}
        with self._answering("POST", "/v1/chat/completions", options, deadline) as response:
            for line in lines(response.iter_bytes()):
                if time.monotonic() >= deadline:  # with what came before still unread
                    raise Late
                data = line.removeprefix(DATA).strip()
                if data == DONE:
                    return
                if line.startswith(DATA):
                    chunk = json.loads(data)
                    if isinstance(chunk, dict) and "error" in chunk:
                        raise self._broken_off(chunk["error"])
                    yield chunk
        raise EngineError(f"The engine at {self.url} broke the answer off.")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _call(self, method: str, path: str, body: dict[str, Any] | None, deadline: float) -> httpx.Response:
        with self._answering(method, path, body, deadline) as response:
            response.read()
        return response

    @contextmanager
    def _answering(
        self, method: str, path: str, body: dict[str, Any] | None, deadline: float
    ) -> Iterator[httpx.Response]:
        """The answer, to be read within the block; its refusal, or Late at the deadline, is raised."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise Late
        limits = httpx.Timeout(left, connect=min(left, CONNECT_S))
        try:
            with (
                self._client.stream(method, path, json=body, timeout=limits) as response,
                _shut_down_at(deadline, response),
            ):
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise self._refusal(response)
                yield response
            if time.monotonic() >= deadline:  # An answer without a length ends as it is cut off.
                raise Late
        except httpx.ConnectError as error:
            raise EngineError(f"The engine is not running at {self.url}.") from error
        except httpx.ConnectTimeout as error:
            raise EngineError(f"The engine at {self.url} cannot be reached.") from error
        except httpx.HTTPError as error:
            if isinstance(error, httpx.TimeoutException) or time.monotonic() >= deadline:
                raise Late from error
            raise EngineError(f"The engine at {self.url} broke the connection off.") from error

    def _refusal(self, response: httpx.Response) -> Exception:
        status, (code, message) = response.status_code, _told(response)
        match status:
            case 401 | 403:
                return EngineError(f"The engine at {self.url} does not accept our token.")
            case 404:
                return StackNotDeployed(f"The engine does not hold an adapter of the stack: deploy it first. {message}")
            case 503 if code == wire.FAILED:  # Our own server's word: asking again would not help.
                return EngineError(message)
            case 429 | 503:
                return EngineBusy(message or "The engine is busy: try again later.", _retry_after(response))
            case _ if 400 <= status < 500:
                return InputError(message or f"The engine refused the request with status {status}.")
        logger.error("The engine at %s failed with status %d: %s", self.url, status, message)
        return Failed(f"The engine at {self.url} failed with status {status}; its log says why.", message)

    def _broken_off(self, error: Any) -> Exception:
        details = error if isinstance(error, dict) else {}
        code, message = details.get("code"), str(details.get("message"))[:MAX_MESSAGE]
        if code in (wire.BUSY, 429, 503):
            return EngineBusy(message)
        if code == wire.FAILED:
            return EngineError(message)
        logger.error("The engine at %s broke an answer off: %s", self.url, str(error)[:MAX_MESSAGE])
        return EngineError(f"The engine at {self.url} broke the answer off.")


@contextmanager
def _shut_down_at(deadline: float, response: httpx.Response) -> Iterator[None]:
    """End the connection at the deadline: httpx limits the time of each read, not of all of them."""

    def shut_down() -> None:
        with suppress(OSError, KeyError):  # It is closed, or there is no socket below.
            response.extensions["network_stream"].get_extra_info("socket").shutdown(SHUT_RDWR)

    timer = Timer(deadline - time.monotonic(), shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _told(response: httpx.Response) -> tuple[Any, str]:
    """Code and message of a refusal: in OpenAI's shape, or as older versions of vLLM have it."""
    try:
        body = response.json()
        error = body.get("error", body)
        return error.get("code"), str(error["message"])[:MAX_MESSAGE]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, ""


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; the header's other form, a date, is not worth a clock that is right."""
    value = response.headers.get("Retry-After", "")
    return min(float(value), MAX_RETRY_S) if value.isascii() and value.isdigit() else None
