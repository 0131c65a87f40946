"""A control plane on the loopback interface, for the unmodified `modal` client, CLI and container entrypoint.

What it cannot show: scheduling, real GPUs, image builds, quotas, real latency.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from grpclib.server import Server
from modal._utils.grpc_utils import custom_detail_codec
from modal_proto import api_pb2 as pb

from tests.modal_plane.apps import Apps
from tests.modal_plane.blobs import Blobs
from tests.modal_plane.calls import Call, Calls
from tests.modal_plane.containers import Machines
from tests.modal_plane.dicts import Dicts
from tests.modal_plane.faults import Faults
from tests.modal_plane.logs import Logs
from tests.modal_plane.service import TOKEN, Service
from tests.modal_plane.volumes import Volumes


class Plane:
    """The plane, running in a thread of its own between `start` and `stop`."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="plane-"))
        self.faults = Faults()
        self.blobs = Blobs(self.root / "blobs")
        self.apps = Apps(self.root, self.blobs)
        self.volumes = Volumes(self.root / "volumes", self.blobs, self.apps.files)
        self.dicts = Dicts()
        self.machines = Machines(self.root / "c", self.apps, self.volumes)
        self.calls = Calls(self.apps, self.machines, self.faults)
        self.logs = Logs(self.calls)
        self.machines.service = self._service
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a modal client needs in its environment to speak to this plane."""
        return {
            "MODAL_SERVER_URL": self.url,
            "MODAL_TOKEN_ID": TOKEN[0],
            "MODAL_TOKEN_SECRET": TOKEN[1],
            "MODAL_DISABLE_API_PROXY": "1",
            "MODAL_CONFIG_PATH": str(self.root / "no.toml"),
        }

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._run(self._start())

    def stop(self) -> None:
        """Kill all containers, close all ports, remove all files."""
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        shutil.rmtree(self.root, ignore_errors=True)

    # what a test does to calls

    def call(self, identity: str) -> Call:
        """The call of that id."""
        return self.calls.calls[identity]

    def preempt(self, identity: str) -> None:
        """Kill the call's container; its input starts again in another one."""

        def kill() -> None:
            container = self.call(identity).container
            if container is not None:
                container.preempted = True
                container.kill()

        self._do(kill)

    def crash(self, identity: str) -> None:
        """Kill the call's container, and the call with it."""
        self._do(lambda: self.call(identity).container.kill())  # type: ignore[union-attr]

    def scale_to_zero(self) -> None:
        """End every container, as Modal ends idle ones."""

        def kill() -> None:
            for container in self.machines.containers:
                container.kill()

        self._do(kill)
        while self.machines.containers:
            time.sleep(0.01)

    def stop_container(self, identity: str) -> None:
        """Let the call's container hang."""
        process = self.call(identity).container.process  # type: ignore[union-attr]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGSTOP)

    def time_out(self, identity: str) -> None:
        """Let the call's time be up."""
        self._do(lambda: setattr(self.call(identity), "deadline", 0.0))

    def expire(self, identity: str) -> None:
        """Forget the call's output."""
        self._do(lambda: setattr(self.call(identity), "expired", True))

    def wait(self, identity: str) -> None:
        """Until the call has ended."""
        self._run(self.call(identity).done.wait(), seconds=300)

    def forge(self, identity: str, result: pb.GenericResult, data_format: Any = pb.DATA_FORMAT_UNSPECIFIED) -> None:
        """Put words into a worker's mouth."""
        call = self.call(identity)
        call.output = pb.FunctionGetOutputsItem(result=result, data_format=data_format)
        self._do(call.done.set)

    def volume(self, name: str) -> Path:
        """The folder of a volume's committed files."""
        return self.root / "volumes" / name

    # inside

    def _parts(self) -> list[object]:
        return [self.apps, self.calls, self.logs, self.volumes, self.dicts, self.blobs]

    def _service(self, container: Any) -> Service:
        return Service(self._parts(), self.faults, container)

    def _run(self, work: Any, seconds: float = 60) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def _do(self, work: Callable[[], Any]) -> None:
        async def wrapped() -> None:
            work()

        self._run(wrapped())

    async def _start(self) -> None:
        self._http = await self.blobs.start()
        self._server = Server([Service(self._parts(), self.faults)], status_details_codec=custom_detail_codec)
        await self._server.start("127.0.0.1", 0)
        port = self._server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.url = f"http://127.0.0.1:{port}"
        self._scheduler = asyncio.create_task(self.calls.run())

    async def _stop(self) -> None:
        self._scheduler.cancel()
        await self.machines.stop()
        self._server.close()
        await self._http.cleanup()


@contextmanager
def running_plane() -> Iterator[Plane]:
    """A plane while the block runs, with this process's environment pointing at it."""
    plane = Plane()
    plane.start()
    before = dict(os.environ)
    os.environ |= plane.environment
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        os.environ.pop(name, None)
    try:
        yield plane
    finally:
        os.environ.clear()
        os.environ.update(before)
        plane.stop()
