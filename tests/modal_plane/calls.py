"""Calls of functions, and the containers that answer them."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpclib import Status
from modal_proto import api_pb2 as pb

from tests.modal_plane.apps import Apps, Function, new_id
from tests.modal_plane.containers import Container, Machines
from tests.modal_plane.faults import Faults
from tests.modal_plane.service import no

logger = logging.getLogger(__name__)

Result = pb.GenericResult
IDLE_SECONDS = 60.0
HEARTBEAT_SECONDS = 10.0  # the client gives one 15 s


@dataclass(eq=False)
class Call:
    """One call with its one input."""

    id: str
    function: Function
    input_id: str
    input: pb.FunctionInput
    starts: int = 0
    container: Container | None = None
    deadline: float = 0.0
    output: pb.FunctionGetOutputsItem | None = None
    chunks: list[pb.DataChunk] = field(default_factory=list)
    expired: bool = False
    logs: list[tuple[Path, int, int | None]] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, status: Any, exception: str = "", **fields: Any) -> None:
        """Set the output, unless there is one."""
        if self.output is None:
            result = Result(status=status, exception=exception, **fields)
            self.output = pb.FunctionGetOutputsItem(result=result, input_id=self.input_id)
            self.done.set()


class Calls:
    """Accepts calls, places them in containers and keeps what came of them."""

    def __init__(self, apps: Apps, machines: Machines, faults: Faults) -> None:
        self.apps = apps
        self.machines = machines
        self.faults = faults
        self.calls: dict[str, Call] = {}
        self.waiting: list[Call] = []

    # from outside

    def FunctionMap(self, request: Any) -> pb.FunctionMapResponse:
        function = self.apps.functions[request.function_id]
        (item,) = request.pipelined_inputs
        call = Call(new_id("fc"), function, new_id("in"), item.input)
        self.calls[call.id] = call
        response = pb.FunctionMapResponse(function_call_id=call.id)
        if not self.faults.unpipelined:
            self.waiting.append(call)
            response.pipelined_inputs.add(idx=0, input_id=call.input_id, input_jwt=call.input_id)
        return response

    def FunctionPutInputs(self, request: Any) -> pb.FunctionPutInputsResponse:
        call = self.find(request.function_call_id)
        (item,) = request.inputs
        call.input.CopyFrom(item.input)
        self.waiting.append(call)
        response = pb.FunctionPutInputsResponse()
        response.inputs.add(idx=0, input_id=call.input_id, input_jwt=call.input_id)
        return response

    async def FunctionGetOutputs(self, request: Any) -> pb.FunctionGetOutputsResponse:
        call = self.find(request.function_call_id)
        if request.timeout and not call.expired:
            with suppress(TimeoutError):
                await asyncio.wait_for(call.done.wait(), request.timeout)
        response = pb.FunctionGetOutputsResponse(last_entry_id="0-0")
        if not call.expired:
            if call.output is None:
                response.num_unfinished_inputs = 1
            else:
                response.idxs.append(0)
                response.outputs.append(call.output)
        return response

    def FunctionCallCancel(self, request: Any) -> None:
        call = self.find(request.function_call_id)
        if call.output is not None:
            return
        if call in self.waiting:
            self.waiting.remove(call)
        elif call.container is not None and request.terminate_containers:
            call.container.kill()
        elif call.container is not None:
            call.container.cancel(call.input_id)
            return
        call.end(Result.GENERIC_STATUS_TERMINATED, "Input was cancelled.")

    def FunctionCallFromId(self, request: Any) -> pb.FunctionCallFromIdResponse:
        call = self.find(request.function_call_id)
        metadata = pb.FunctionCallHandleMetadata(app_id=call.function.app.id, function_id=call.function.id)
        return pb.FunctionCallFromIdResponse(function_call_id=call.id, num_inputs=1, metadata=metadata)

    def FunctionGetCurrentStats(self, request: Any) -> pb.FunctionStats:
        function = self.apps.functions[request.function_id]
        containers = [container for container in self.machines.containers if container.function is function]
        return pb.FunctionStats(
            backlog=sum(call.function is function for call in self.waiting),
            num_total_tasks=len(containers),
            num_running_inputs=sum(len(container.calls) for container in containers),
        )

    async def FunctionCallGetDataOut(self, request: Any) -> AsyncIterator[pb.DataChunk]:
        """What a generator has yielded after `last_index`, and what it yields within some seconds."""
        call, sent = self.find(request.function_call_id), request.last_index
        deadline = time.monotonic() + HEARTBEAT_SECONDS
        while time.monotonic() < deadline:
            over = call.done.is_set()
            for chunk in call.chunks[sent:]:
                yield chunk
                sent += 1
            if over:
                return
            await asyncio.sleep(0.01)

    def find(self, identity: str) -> Call:
        """The call of that id, or NOT_FOUND."""
        if identity not in self.calls:
            raise no(Status.NOT_FOUND, f"Function call {identity} not found")
        return self.calls[identity]

    # from a container

    def ContainerHello(self, request: Any, container: Container) -> None:
        pass

    async def ContainerHeartbeat(self, request: Any, container: Container) -> pb.ContainerHeartbeatResponse:
        """Held back until there is something to cancel."""
        response = pb.ContainerHeartbeatResponse()
        with suppress(TimeoutError):
            await asyncio.wait_for(container.cancelling.wait(), HEARTBEAT_SECONDS)
        if container.cancelled:
            response.cancel_input_event.input_ids.extend(container.cancelled)
            container.cancelled.clear()
        container.cancelling.clear()
        return response

    async def FunctionGetInputs(self, request: Any, container: Container) -> pb.FunctionGetInputsResponse:
        response, since = pb.FunctionGetInputsResponse(), time.monotonic()
        app = container.function.app
        while app.running and not container.leaving and time.monotonic() < since + IDLE_SECONDS:
            if container.calls:
                since = time.monotonic()
            call = next((call for call in self.waiting if call.function is container.function), None)
            if call is not None and not self.faults.hold:
                self.waiting.remove(call)
                self._begin(call, container)
                response.inputs.add(
                    input_id=call.input_id,
                    input=call.input,
                    function_call_id=call.id,
                    function_call_invocation_type=pb.FUNCTION_CALL_INVOCATION_TYPE_ASYNC,
                )
                return response
            await asyncio.sleep(0.02)
        container.leaving = True
        response.inputs.add(kill_switch=True)
        return response

    def FunctionPutOutputs(self, request: Any, container: Container) -> None:
        for item in request.outputs:
            call = next(call for call in self.calls.values() if call.input_id == item.input_id)
            if call.output is None:
                call.output = pb.FunctionGetOutputsItem(
                    result=item.result, input_id=item.input_id, data_format=item.data_format, task_id=container.id
                )
            self._finish(call)

    def FunctionCallPutDataOut(self, request: Any, container: Container) -> None:
        self.find(request.function_call_id).chunks.extend(request.data_chunks)

    def ContainerStop(self, request: Any, container: Container) -> None:
        """The container takes no more inputs, and ends with those that it has."""
        if request.task_id != container.id or not request.graceful:
            raise no(Status.UNIMPLEMENTED, "The loopback plane lets a container only leave by itself.")
        container.leaving = True

    def TaskResult(self, request: Any, container: Container) -> None:
        """The container could not start: what waits for its function fails with the same error."""
        container.leaving = True
        for call in [call for call in self.waiting if call.function is container.function]:
            self.waiting.remove(call)
            call.output = pb.FunctionGetOutputsItem(result=request.result, input_id=call.input_id)
            call.output.result.status = Result.GENERIC_STATUS_INIT_FAILURE
            call.done.set()

    # inside

    def _begin(self, call: Call, container: Container) -> None:
        call.container = container
        container.calls.append(call)
        call.starts += 1
        call.logs.append((container.log, container.log.stat().st_size, None))
        call.deadline = time.monotonic() + (container.function.definition.timeout_secs or 300)

    def _finish(self, call: Call) -> None:
        call.done.set()
        container = call.container
        if container is not None:
            path, start, _ = call.logs[-1]
            call.logs[-1] = (path, start, container.log.stat().st_size)
            container.calls.remove(call)
            call.container = None
            container.leaving |= container.function.definition.single_use_containers

    async def run(self) -> None:
        """Start containers for what waits, and see to those that have gone."""
        while True:
            for container in list(self.machines.containers):
                self._look_after(container)
            if not self.faults.hold:
                for function in {call.function.id: call.function for call in self.waiting}.values():
                    wanted = sum(call.function is function for call in self.waiting)
                    if self.machines.free(function) < wanted and not self.machines.is_full(function):
                        try:
                            await self.machines.start(function)
                        except (OSError, shutil.Error):  # as where a volume changes while it is copied
                            logger.exception("A container could not be started; the next round tries again.")
            await asyncio.sleep(0.03)

    def _look_after(self, container: Container) -> None:
        if container.process.returncode is None:
            for call in container.calls:
                if time.monotonic() > call.deadline:
                    call.end(Result.GENERIC_STATUS_TIMEOUT, "Task's current input hit its timeout")
                    container.kill()
            return
        self.machines.containers.remove(container)
        for call in container.calls:
            if call.output is not None:
                continue
            self._finish_logs(call, container)
            if container.preempted:
                call.container = None
                self.waiting.insert(0, call)
            else:
                message = f"Container exited with code {container.process.returncode}."
                call.end(Result.GENERIC_STATUS_INTERNAL_FAILURE, message)

    @staticmethod
    def _finish_logs(call: Call, container: Container) -> None:
        path, start, _ = call.logs[-1]
        call.logs[-1] = (path, start, container.log.stat().st_size)
