"""The engine's server around an engine, on a real socket, in a thread of this process."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from aiohttp import web

from inference.server.app import HOST, build_app
from inference.server.host import Host, HostedEngine


def await_health(url: str, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until the server that is `process` says that it is ready."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended before it served"
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"not ready in {seconds} s")


@contextmanager
def served(engine: HostedEngine, token: str) -> Iterator[str]:
    """Its URL; the engine is closed at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(step: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(step, loop).result(30)

    runner = web.AppRunner(
        build_app(Host(lambda: engine, lambda: None), token), handler_cancellation=True, shutdown_timeout=1
    )
    run(runner.setup())
    run(web.TCPSite(runner, "127.0.0.1", 0).start())
    while runner.app[HOST].state != "ok":
        time.sleep(0.01)
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    run(runner.cleanup())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
