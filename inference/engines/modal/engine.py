"""The engine in containers of Modal's: the deployed class `StackedInference`."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import aiohttp
import modal
from modal.exception import AuthError, Error, NotFoundError

from adapters.store import Store
from datasets_app.room import explain
from inference.engines import wire
from inference.engines.base import EngineBusy, EngineError
from inference.engines.modal import calls
from inference.engines.modal.account import is_ours, read_token_anew, sentence
from inference.engines.modal.upload import record_stack, upload_adapters
from inference.engines.streams import told
from inference.engines.types import Decision, Request, StackedResult, StackSpec, StreamEvent

CLASS = "StackedInference"
DEPLOY = "run `modal deploy -m workers.modal_app`"
DEPLOY_S = 540.0
STATUS_S = 20.0
CLOSE_S = 5.0
LOOK_UP_S = 60.0

T = TypeVar("T")


class ModalEngine:
    """Implements `inference.engines.base.Engine` with calls of the class that the app `app` has deployed.

    `store` holds the adapters' files, which `deploy` brings to the volume named `volume`. A request that has no
    answer after `deadline_s` is ended. One event loop, in a thread of its own, waits for all of them; a cancelled
    future ends its call in the container. `places` is how many requests a server should let in for it at once.
    """

    def __init__(
        self,
        app: str,
        store: Store,
        volume: str,
        environment: str | None = None,
        version: int | None = None,
        deadline_s: float = 150.0,
        places: int = 128,
    ) -> None:
        self.places = places
        self._app = app
        self._store = store
        self._volume_name = volume
        self._environment = environment
        self._version = version
        self.deadline_s = deadline_s
        self._function, self._looked_up = "", 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._submitting, self._is_closed = threading.Lock(), False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="modal-calls", daemon=True)
        self._thread.start()

    @property
    def is_stalled(self) -> bool:
        """Never: each call has a time limit, and the containers are Modal's to watch."""
        return False

    # The seam

    def deploy(self, stack: StackSpec) -> None:
        """Bring the adapters to the volume, load the stack in a container, and let later ones find it."""
        with self._speaking():
            upload_adapters(stack, self._store, self._volume())
        self._submit(self._ask("deploy", wire.dump_stack(stack), bytes, DEPLOY_S)).result()
        with self._speaking():
            record_stack(stack, self._volume())

    def route(self, request: Request) -> Decision:
        """Decide which expert should answer."""
        return self.submit_route(request).result()

    def infer(self, request: Request) -> StackedResult:
        """Route, then generate with the chosen expert."""
        return self.submit_infer(request).result()

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """`infer` as it happens; closing the iterator ends the call."""
        return told(lambda tell: self.submit_stream(request, tell))

    def status(self) -> dict[str, object]:
        """What a container holds. None is started to be asked: without one the status says only that."""
        return self._submit(self._status()).result()

    def close(self) -> None:
        """End what is under way here; the containers go when they are idle."""
        with self._submitting:  # What came before is settled, what comes later refused.
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._settle(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # The same, as futures

    def submit_route(self, request: Request) -> Future[Decision]:
        """`route` as a future."""
        return self._submit(self._ask("route", wire.dump_request(request), wire.load_decision))

    def submit_infer(self, request: Request) -> Future[StackedResult]:
        """`infer` as a future."""
        return self._submit(self._ask("infer", wire.dump_request(request), wire.load_result))

    def submit_stream(self, request: Request, on_event: Callable[[StreamEvent], None]) -> Future[StackedResult]:
        """`infer` as a future; `on_event`, on this engine's thread, is told decision and text."""
        return self._submit(self._follow(wire.dump_request(request), on_event))

    def _volume(self) -> modal.Volume:
        """Looked up by whoever has the token now."""
        read_token_anew()
        return modal.Volume.from_name(self._volume_name, environment_name=self._environment)

    # On the event loop

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._submitting:
            if not self._is_closed:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise EngineError("The engine is closed.")

    async def _ask(self, method: str, argument: bytes, load: Callable[[bytes], T], seconds: float | None = None) -> T:
        async with self._call(method, argument, seconds=seconds) as call:
            answer = await calls.outcome.aio(await _client(), call)
        match answer:
            case [200, bytes(body)]:
                return _read(load, body)
            case [int(status), bytes(body)]:
                raise wire.load_error(status, body)
        raise _wrong()

    async def _follow(self, argument: bytes, on_event: Callable[[StreamEvent], None]) -> StackedResult:
        async with self._call("stream", argument) as call:
            reading = asyncio.ensure_future(self._events(call, on_event))
            ending = asyncio.ensure_future(calls.outcome.aio(await _client(), call))
            try:
                await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    ending.result()
                return await reading
            finally:
                for task in (reading, ending):
                    task.cancel()
                await asyncio.gather(reading, ending, return_exceptions=True)

    async def _events(self, call: str, on_event: Callable[[StreamEvent], None]) -> StackedResult:
        async for line in calls.yields.aio(await _client(), call):
            if not isinstance(line, bytes):
                raise _wrong()
            event = _read(wire.load_event, line)
            if isinstance(event, Exception):
                raise event
            if isinstance(event, StackedResult):
                return event
            on_event(event)
        raise _wrong()

    async def _status(self) -> dict[str, object]:
        with self._speaking():
            waiting, containers = await calls.load.aio(await _client(), await self._found())
        held: dict[str, object] = {}
        if containers:
            held = await self._ask("status", b"", lambda data: dict(json.loads(data)), STATUS_S)
        return {**held, "app": self._app, "containers": containers, "backlog": waiting}

    @asynccontextmanager
    async def _call(self, method: str, argument: bytes, *, seconds: float | None = None) -> AsyncIterator[str]:
        """A call while the block runs, ended if the block is left without its outcome."""
        seconds = seconds or self.deadline_s
        beginning: asyncio.Task[str] = asyncio.ensure_future(self._begin(method, argument))
        try:
            with self._speaking():
                async with asyncio.timeout(seconds):
                    yield await asyncio.shield(beginning)
        except TimeoutError:
            self._in_background(self._end(beginning))
            raise await self._too_slow(seconds) from None
        except BaseException:
            self._in_background(self._end(beginning))
            raise

    async def _begin(self, method: str, argument: bytes) -> str:
        arguments = [] if method == "status" else [argument]
        known = self._function
        try:
            return str(await calls.begin.aio(await _client(), await self._found(), method, arguments))
        except NotFoundError:  # deployed anew
            if not known:
                raise
            self._function = ""
            return str(await calls.begin.aio(await _client(), await self._found(), method, arguments))

    async def _found(self) -> str:
        """The id of the class's function, looked up once in a while: the app may have been deployed anew."""
        if not self._function or time.monotonic() > self._looked_up + LOOK_UP_S:
            found = modal.Cls.from_name(self._app, CLASS, environment_name=self._environment, version=self._version)
            await found.hydrate.aio()
            method = found().infer
            await method.hydrate.aio()
            self._function, self._looked_up = str(method.object_id), time.monotonic()
        return self._function

    async def _end(self, beginning: asyncio.Task[str]) -> None:
        with self._quietly():
            await calls.end.aio(await _client(), await beginning)

    async def _too_slow(self, seconds: float) -> EngineError:
        """Whether no container was free, as while one starts, or one was too slow."""
        with self._quietly():
            waiting, containers = await calls.load.aio(await _client(), await self._found())
            if waiting or not containers:
                return EngineBusy(f"No container on Modal was free for {seconds:.0f} s; one is being started.")
        return EngineError(f"The engine on Modal did not answer within {seconds:.0f} s.")

    async def _settle(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()} - self._tasks
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """What goes wrong between here and Modal becomes an EngineError."""
        try:
            yield
        except AuthError as error:
            raise EngineError(f"Modal refuses the token, or there is none: {sentence(error)}") from error
        except NotFoundError as error:
            app = f"the app {self._app!r}" + (f" in version {self._version}" if self._version else "")
            raise EngineError(f"{CLASS} of {app} is not deployed on Modal: {DEPLOY}.") from error
        except TimeoutError:
            raise
        except (Error, OSError, aiohttp.ClientError) as error:
            if is_ours(error):
                raise EngineError(explain(error)) from error
            raise EngineError(f"Modal does not answer: {sentence(error)}") from error

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        try:
            yield
        except (Error, OSError, aiohttp.ClientError, asyncio.CancelledError):
            return


async def _client() -> modal.Client:
    read_token_anew()
    return await modal.Client.from_env.aio()


def _wrong() -> EngineError:
    return EngineError("The engine on Modal answered something else than was asked for.")


def _read(load: Callable[[bytes], T], data: bytes) -> T:
    try:
        return load(data)
    except (ValueError, RecursionError) as error:
        raise _wrong() from error
