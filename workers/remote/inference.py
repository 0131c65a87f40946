"""Requests answered in a container: the engine of this process behind calls that take and give bytes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import modal
import modal.experimental

from adapters.backbone.spec import fingerprint
from datasets_app.errors import InputError
from inference.engines import wire
from inference.engines.base import EngineError
from inference.engines.limits import Limits
from inference.engines.modal.places import adapter_folder, stack_file
from inference.engines.types import StackSpec
from inference.server.host import Host
from workers.remote.serving import Serving

if TYPE_CHECKING:
    from inference.engines.in_process import InProcessEngine

logger = logging.getLogger(__name__)

OK = 200


class Inference:
    """An engine whose adapters lie on `volume`, by their hashes; `mounts` is where the container finds its volumes.

    A call takes the bytes of `inference.engines.wire` and gives `[status, bytes]` as the engine's HTTP server does:
    failures cross as data. A stack that this container does not hold is looked for on the volume.
    """

    def __init__(self, serving: Serving, volume: modal.Volume, mounts: Path) -> None:
        self._serving = serving
        self._volume = volume
        self._root = mounts / "checkpoints"
        self._spec = serving.spec(mounts / "base")
        self._deploying = asyncio.Lock()
        self._engine: InProcessEngine
        self._host: Host

    def load(self) -> None:
        """Read the base into memory: what a memory snapshot keeps. There is no GPU yet."""
        from adapters.backbone.loading import load_model, load_processor

        self._model: Any = load_model(replace(self._spec, device="cpu"))
        self._processor = load_processor(self._spec)
        self._base = fingerprint(self._spec)

    def start(self) -> None:
        """Put the base where it computes, and begin to answer. BaseError if the GPU that was rented is not there."""
        from adapters.backbone.loading import resolve_device
        from inference.engines.in_process import InProcessEngine

        device = resolve_device("cuda" if self._serving.gpu_list else "cpu")
        limits = Limits.from_env(on_gpu=device.type == "cuda")
        model = self._model.to(device)
        self._engine = InProcessEngine(model, self._processor, self._base, self._folder, limits, _leave)
        self._host = Host.around(self._engine)

    def close(self) -> None:
        """Finish what is being answered."""
        self._engine.close()

    async def deploy(self, stack: bytes) -> list[Any]:
        """Load a stack."""

        async def work() -> bytes:
            await self._deploy(wire.load_stack(stack))
            return b""

        return await _reply(work)

    async def route(self, request: bytes) -> list[Any]:
        """A decision."""

        async def work() -> bytes:
            asked = wire.load_request(request)
            await self._hold(asked.stack)
            return wire.dump_decision(await self._host.call(lambda: self._engine.submit_route(asked)))

        return await _reply(work)

    async def infer(self, request: bytes) -> list[Any]:
        """A decision and an answer."""

        async def work() -> bytes:
            asked = wire.load_request(request)
            await self._hold(asked.stack)
            return wire.dump_result(await self._host.call(lambda: self._engine.submit_infer(asked)))

        return await _reply(work)

    async def stream(self, request: bytes) -> AsyncGenerator[bytes]:
        """Decision, text, result or error, a line each. A caller that is cancelled ends its work."""
        try:
            asked = wire.load_request(request)
            await self._hold(asked.stack)
            events = self._host.stream(lambda tell: self._engine.submit_stream(asked, tell))
            async with aclosing(events):
                async for event in events:
                    yield wire.dump_event(event)
        except Exception as error:
            yield wire.dump_event(_logged(error))

    async def status(self) -> list[Any]:
        """What the engine holds."""

        async def work() -> bytes:
            return json.dumps(self._engine.status()).encode()

        return await _reply(work)

    async def _hold(self, digest: str) -> None:
        """Load the stack if it is not loaded and lies on the volume; if it does not, the engine says so."""
        if digest in self._engine.status()["stacks"]:  # type: ignore[operator]
            return
        try:
            file = self._root / stack_file(digest)
        except InputError:
            return
        async with self._deploying:
            if not file.is_file():
                await self._volume.reload.aio()
            data = file.read_bytes() if file.is_file() else None
        try:
            stack = wire.load_stack(data) if data else None
            if stack is not None and stack.digest == digest:
                await self._deploy(stack)
        except InputError as error:  # no fault of whoever asks
            raise EngineError(f"The stack that serves cannot be loaded: {error}") from error

    async def _deploy(self, stack: StackSpec) -> None:
        """One at a time: a volume is not reloaded while adapters are read from it."""
        adapters = (stack.router, *stack.experts)
        async with self._deploying:
            if not all((self._root / adapter_folder(adapter.digest)).is_dir() for adapter in adapters):
                await self._volume.reload.aio()
            await asyncio.to_thread(self._engine.deploy, stack)

    def _folder(self, digest: str) -> Path:
        folder = self._root / adapter_folder(digest)
        if not folder.is_dir():
            raise InputError(f"The volume does not hold the adapter version {digest}.")
        return folder


def _leave() -> None:
    """Let Modal start another container: whoever asks meanwhile is refused here, and the next one there."""
    try:
        modal.experimental.stop_fetching_inputs()
    except Exception:  # Modal does not answer
        logger.exception("The container, whose model has failed for good, ends itself")
        os.kill(os.getpid(), signal.SIGTERM)


async def _reply(work: Callable[[], Awaitable[bytes]]) -> list[Any]:
    try:
        return [OK, await work()]
    except Exception as error:
        return list(wire.dump_error(_logged(error)))


def _logged(error: Exception) -> Exception:
    if not isinstance(error, InputError | EngineError):
        logger.exception("A request failed")
    return error
