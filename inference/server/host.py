"""The engine while it loads, while it runs, and its futures as seen from an event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from datasets_app.errors import InputError
from inference.engines.base import EngineBusy
from inference.engines.chat import Chat, Completion, Token
from inference.engines.types import AdapterRef, Decision, Request, StackedResult, StackSpec, StreamEvent

T = TypeVar("T")
logger = logging.getLogger(__name__)

LATE_S = 1.5  # that an answer may come after the deadline, as the last step takes its time
LOADING = 4  # loads at once; the others wait for those


class HostedEngine(Protocol):
    """An engine whose calls are futures, which end, wherever they are, when cancelled; it has deadlines of its own."""

    @property
    def places(self) -> int:
        """How many requests it may hold at once, from their arrival to their end."""

    @property
    def deadline_s(self) -> float:
        """Seconds within which it has answered a request."""

    @property
    def is_stalled(self) -> bool:
        """Whether it gets on with nothing though it should."""

    def deploy(self, stack: StackSpec) -> None:
        """Load a stack, in the caller's thread."""

    def submit_route(self, request: Request) -> Future[Decision]:
        """Queue a decision."""

    def submit_infer(self, request: Request) -> Future[StackedResult]:
        """Queue an answer."""

    def submit_stream(self, request: Request, on_event: Callable[[StreamEvent], None]) -> Future[StackedResult]:
        """Queue an answer; `on_event`, in any thread, is told the decision and the text as it comes."""

    def status(self) -> dict[str, object]:
        """What the engine holds."""

    def close(self) -> None:
        """Free it."""


@runtime_checkable
class ChatEngine(HostedEngine, Protocol):
    """A hosted engine that also answers chats with one adapter, as OpenAI's protocol has them."""

    @property
    def base(self) -> str:
        """The base model's fingerprint."""

    @property
    def models(self) -> list[str]:
        """The adapters that chats may name."""

    @property
    def max_models(self) -> int:
        """How many of them there may be; one more, and the one asked longest ago goes."""

    def load_model(self, adapter: AdapterRef) -> None:
        """Let chats name an adapter; in the caller's thread."""

    def unload_model(self, model: str) -> bool:
        """Let no more chats name it; False if none could."""

    def folder(self, digest: str) -> Path:
        """Where an adapter's files lie."""

    def submit_completion(
        self, chat: Chat, on_event: Callable[[StreamEvent], None] | None = None
    ) -> Future[Completion]:
        """Queue a chat; `on_event`, in any thread, is told the text as it comes."""

    def submit_choice(self, chat: Chat, choices: Sequence[str]) -> Future[Decision]:
        """Queue a choice."""

    def spell(self, choices: Sequence[str]) -> dict[str, list[Token]]:
        """The tokens of each choice, with the end token."""


class Host:
    """Loads the engine in the background; `failed` is called, in any thread, if that fails or the engine does later."""

    def __init__(self, load: Callable[[], HostedEngine], failed: Callable[[], None]) -> None:
        self._load = load
        self._failed = failed
        self._engine: HostedEngine | None = None
        self._broken = False
        self._loading = ThreadPoolExecutor(LOADING, "loading")
        self._status: asyncio.Future[dict[str, object]] | None = None

    @classmethod
    def around(cls, engine: HostedEngine) -> Host:
        """A host whose engine is there."""
        host = cls(lambda: engine, lambda: None)
        host._engine = engine
        return host

    def start(self) -> None:
        """Begin to load. The thread is a daemon: whoever stops the process needn't wait for it."""
        threading.Thread(target=self._run, name="engine-loader", daemon=True).start()

    @property
    def state(self) -> str:
        """`loading`, `failed` for good, `stalled` where the model finishes no step, or `ok`."""
        if self._broken:
            return "failed"
        if self._engine is None:
            return "loading"
        return "stalled" if self._engine.is_stalled else "ok"

    def fail(self) -> None:
        """The engine will answer nobody any more."""
        self._broken = True
        self._failed()

    @property
    def engine(self) -> HostedEngine:
        """The engine; EngineBusy while it loads."""
        if self._engine is None:
            raise EngineBusy("The engine is still loading its model.")
        return self._engine

    @property
    def chats(self) -> ChatEngine:
        """The engine, if it answers chats; InputError otherwise."""
        engine = self.engine
        if not isinstance(engine, ChatEngine):
            raise InputError("This engine answers no chats: its containers on Modal are asked for whole stacks only.")
        return engine

    async def load(self, work: Callable[[], T]) -> T:
        """The result of `work`, which loads adapters: however long that takes, other threads decode and answer."""
        return await asyncio.get_running_loop().run_in_executor(self._loading, work)

    async def status(self) -> dict[str, object]:
        """The engine's status. One that is elsewhere may take long: whoever asks meanwhile shares the answer."""
        if self._status is None or self._status.done():
            self._status = asyncio.ensure_future(asyncio.to_thread(self.engine.status))
        return await asyncio.shield(self._status)

    async def call(self, submit: Callable[[], Future[T]]) -> T:
        """The result of the future that `submit` returns, called in another thread because it decodes bodies.

        A caller that is cancelled ends its work; EngineBusy where there is no result soon after the deadline.
        """
        late = self._late()
        future = await self._submitted(submit)
        try:
            async with asyncio.timeout_at(late):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise self._too_late() from None
        finally:
            future.cancel()

    async def stream(self, submit: Callable[[Callable[[StreamEvent], None]], Future[T]]) -> AsyncGenerator[Any]:
        """What the future that `submit` returns tells its listener, last its result. Close it to end the work.

        EngineBusy where the result is not there soon after the deadline.
        """
        late = self._late()
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[StreamEvent | None] = asyncio.Queue()

        def tell(event: StreamEvent | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        future = await self._submitted(lambda: submit(tell))
        try:
            future.add_done_callback(lambda _: tell(None))
            while (event := await self._next(events, late)) is not None:
                yield event
            yield future.result()
        finally:
            future.cancel()

    async def _next(self, events: asyncio.Queue[StreamEvent | None], late: float) -> StreamEvent | None:
        try:
            async with asyncio.timeout_at(late):
                return await events.get()
        except TimeoutError:
            raise self._too_late() from None

    def _late(self) -> float:
        return asyncio.get_running_loop().time() + self.engine.deadline_s + LATE_S

    def _too_late(self) -> EngineBusy:
        return EngineBusy(f"The model did not answer within {self.engine.deadline_s:g} s.")

    async def _submitted(self, submit: Callable[[], Future[T]]) -> Future[T]:
        submitting = asyncio.ensure_future(asyncio.to_thread(submit))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            submitting.add_done_callback(_cancel)
            raise

    def close(self) -> None:
        """Free the engine; loads that have not begun never do."""
        self._loading.shutdown(wait=False, cancel_futures=True)
        if self._engine is not None:
            self._engine.close()

    def _run(self) -> None:
        try:
            self._engine = self._load()
            logger.info("The engine is ready")
        except InputError as error:
            logger.error("The engine could not be loaded: %s", error)
            self.fail()
        except Exception:
            logger.exception("The engine could not be loaded")
            self.fail()


def _cancel(submitting: asyncio.Future[Future[T]]) -> None:
    if not submitting.cancelled() and submitting.exception() is None:
        submitting.result().cancel()
