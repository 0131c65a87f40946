"""Calls of the deployed class, as the modal client makes them, but with CBOR both ways and nothing else accepted.

The client's own `remote` and `remote_gen` unpickle what a container sends if it says that it is a pickle. These
functions run on the modal client's event loop; from another one call their `.aio`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

import cbor2
from modal._utils.async_utils import synchronize_api
from modal._utils.blob_utils import MAX_OBJECT_SIZE_BYTES, blob_download, blob_upload
from modal._utils.grpc_utils import Retry
from modal.client import _Client
from modal_proto import api_pb2

from inference.engines.base import EngineError

POLL_S = 50.0  # Modal holds a question back for at most 55 s
GRACE_S = 5.0

Result = api_pb2.GenericResult
ENDS = {
    Result.GENERIC_STATUS_FAILURE: "The function on Modal raised an exception: {}",
    Result.GENERIC_STATUS_TIMEOUT: "The function on Modal ran into its time limit: {}",
    Result.GENERIC_STATUS_TERMINATED: "The call was cancelled on Modal: {}",
    Result.GENERIC_STATUS_INIT_FAILURE: "The container on Modal could not start: {}",
}


async def _begin(client: _Client, function: str, method: str, arguments: list[Any]) -> str:
    """Call the method of the class's function with that id; the call's id."""
    given = api_pb2.FunctionInput(data_format=api_pb2.DATA_FORMAT_CBOR, method_name=method)
    data = cbor2.dumps([arguments, {}])
    if len(data) > MAX_OBJECT_SIZE_BYTES:
        given.args_blob_id = await blob_upload(data, client._stub)
    else:
        given.args = data
    item = api_pb2.FunctionPutInputsItem(idx=0, input=given)
    request = api_pb2.FunctionMapRequest(
        function_id=function,
        function_call_type=api_pb2.FUNCTION_CALL_TYPE_UNARY,
        function_call_invocation_type=api_pb2.FUNCTION_CALL_INVOCATION_TYPE_SYNC,
        pipelined_inputs=[item],
    )
    response = await client._stub.FunctionMap(request)
    call = str(response.function_call_id)
    if not response.pipelined_inputs:
        await client._stub.FunctionPutInputs(
            api_pb2.FunctionPutInputsRequest(function_id=function, function_call_id=call, inputs=[item])
        )
    return call


async def _outcome(client: _Client, call: str) -> Any:
    """Wait for the call's end: what it returned, None for a generator. EngineError if it did not end well."""
    while True:
        request = api_pb2.FunctionGetOutputsRequest(
            function_call_id=call, timeout=POLL_S, last_entry_id="0-0", requested_at=time.time(), start_idx=0, end_idx=0
        )
        response = await client._stub.FunctionGetOutputs(request, retry=Retry(attempt_timeout=POLL_S + GRACE_S))
        if response.outputs:
            break
        if not response.num_unfinished_inputs:
            raise EngineError("Modal knows nothing of the call any more.")
    output, result = response.outputs[0], response.outputs[0].result
    if result.status != Result.GENERIC_STATUS_SUCCESS:
        words = " ".join(result.exception.split())[:1000] or "no message"
        raise EngineError(ENDS.get(result.status, "The container on Modal was lost: {}").format(words))
    if output.data_format == api_pb2.DATA_FORMAT_GENERATOR_DONE:
        return None
    return await _value(client, output.data_format, result.data, result.data_blob_id)


async def _yields(client: _Client, call: str) -> AsyncGenerator[Any, None]:
    """What the call, that of a generator, yields; it does not end by itself."""
    last = 0
    while True:
        request = api_pb2.FunctionCallGetDataRequest(function_call_id=call, last_index=last)
        async for chunk in client._stub.FunctionCallGetDataOut.unary_stream(request):
            if chunk.index > last:
                last = chunk.index
                yield await _value(client, chunk.data_format, chunk.data, chunk.data_blob_id)


async def _value(client: _Client, data_format: int, data: bytes, blob: str) -> Any:
    if data_format != api_pb2.DATA_FORMAT_CBOR:
        raise EngineError("The container on Modal answered in another format than CBOR; that is never opened.")
    if blob:
        data = await blob_download(blob, client._stub)
    try:
        return cbor2.loads(data)
    except cbor2.CBORDecodeError as error:
        raise EngineError("The container on Modal answered with broken CBOR.") from error


async def _end(client: _Client, call: str) -> None:
    """Cancel the call; its container goes on with others."""
    await client._stub.FunctionCallCancel(api_pb2.FunctionCallCancelRequest(function_call_id=call))


async def _load(client: _Client, function: str) -> tuple[int, int]:
    """How many calls wait for a container, and how many containers there are."""
    request = api_pb2.FunctionGetCurrentStatsRequest(function_id=function)
    stats = await client._stub.FunctionGetCurrentStats(request, retry=Retry(total_timeout=10.0))
    return int(stats.backlog), int(stats.num_total_tasks)


begin = synchronize_api(_begin)
outcome = synchronize_api(_outcome)
yields = synchronize_api(_yields)
end = synchronize_api(_end)
load = synchronize_api(_load)
