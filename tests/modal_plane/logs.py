"""What containers wrote."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from modal_proto import api_pb2 as pb

from tests.modal_plane.calls import Calls


class Logs:
    """Reads the containers' log files."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def AppFetchLogs(self, request: Any) -> pb.AppFetchLogsResponse:
        slices = self.calls.find(request.function_call_id).logs
        data = b"".join(_read(path, start, end) for path, start, end in slices)
        return pb.AppFetchLogsResponse(batches=[_batch(data, request.limit)])

    async def AppGetLogs(self, request: Any) -> AsyncIterator[pb.TaskLogsBatch]:
        app = self.calls.apps.apps[request.app_id]
        read: dict[str, int] = json.loads(request.last_entry_id or "{}")
        deadline = time.monotonic() + request.timeout
        while time.monotonic() < deadline:
            done = not app.running
            for container in self.calls.machines.started:
                if container.function.app is app and (data := _read(container.log, read.get(container.id, 0), None)):
                    read[container.id] = read.get(container.id, 0) + len(data)
                    yield _batch(data, None, entry_id=json.dumps(read), task_id=container.id)
            if done:
                yield pb.TaskLogsBatch(app_done=True, entry_id=json.dumps(read))
                return
            await asyncio.sleep(0.1)


def _read(path: Path, start: int, end: int | None) -> bytes:
    with path.open("rb") as log:
        log.seek(start)
        return log.read() if end is None else log.read(end - start)


def _batch(data: bytes, limit: int | None, **fields: Any) -> pb.TaskLogsBatch:
    batch = pb.TaskLogsBatch(**fields)
    lines = data.decode(errors="replace").splitlines(keepends=True)
    for line in lines[-limit:] if limit else lines:
        batch.items.add(data=line, timestamp=time.time(), file_descriptor=pb.FILE_DESCRIPTOR_STDOUT)
    return batch
