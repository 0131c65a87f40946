"""Spawning, asking after and cancelling calls, and who has claimed what.

A call is asked after by its status alone. `FunctionCall.get` would unpickle what a container sends, and even with
CBOR payloads the exception of a container that did not start; here nothing that a worker sent is deserialised.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from enum import Enum

import modal
from modal._serialization import serialize
from modal._utils.async_utils import synchronize_api
from modal._utils.grpc_utils import Retry
from modal.client import _Client
from modal.exception import Error, NotFoundError
from modal_proto import api_pb2

Status = api_pb2.GenericResult


class Outcome(Enum):
    """How a call stands."""

    PENDING = "pending"
    DONE = "done"
    RAISED = "raised"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    UNSTARTED = "unstarted"
    CRASHED = "crashed"
    EXPIRED = "expired"


OUTCOMES = {
    Status.GENERIC_STATUS_SUCCESS: Outcome.DONE,
    Status.GENERIC_STATUS_FAILURE: Outcome.RAISED,
    Status.GENERIC_STATUS_TIMEOUT: Outcome.TIMED_OUT,
    Status.GENERIC_STATUS_TERMINATED: Outcome.CANCELLED,
    Status.GENERIC_STATUS_INIT_FAILURE: Outcome.UNSTARTED,
}
"""Of Modal's statuses; the others are ways to lose a container."""


@dataclass(frozen=True)
class Answer:
    """The outcome, and the words of the exception, if there are any."""

    outcome: Outcome
    words: str = ""


async def _get_outputs(client: _Client, call: str, seconds: float) -> api_pb2.FunctionGetOutputsResponse:
    request = api_pb2.FunctionGetOutputsRequest(
        function_call_id=call, timeout=seconds, last_entry_id="0-0", requested_at=time.time(), start_idx=0, end_idx=0
    )
    return await client._stub.FunctionGetOutputs(request, retry=Retry(attempt_timeout=seconds + GRACE_SECONDS))


async def _get_raw(client: _Client, dictionary: str, key: str) -> bytes:
    response = await client._stub.DictGet(api_pb2.DictGetRequest(dict_id=dictionary, key=serialize(key)))
    return response.value if response.found else b""


get_outputs = synchronize_api(_get_outputs)
get_raw = synchronize_api(_get_raw)
FORESTALLED = "cancelled"
HELD_SECONDS = 50.0  # Modal holds a question back for at most 55 s
GRACE_SECONDS = 10.0
CALL = re.compile(r"fc-[A-Za-z0-9]{1,64}")


def is_call(text: object) -> bool:
    """Whether it looks like the id of a call."""
    return isinstance(text, str) and CALL.fullmatch(text) is not None


def spawn(app: str, function: str, environment: str | None, version: int | None, launch: str) -> str:
    """Call the deployed function with the launch; the call's id."""
    found = modal.Function.from_name(app, function, environment_name=environment, version=version)
    return str(found.spawn(launch).object_id)


def ask(call: str, seconds: float = 0.0) -> Answer:
    """How the call stands; one that has not ended may do so within so many seconds, at most `HELD_SECONDS`."""
    try:
        response = get_outputs(modal.Client.from_env(), call, seconds)
    except NotFoundError:
        return Answer(Outcome.EXPIRED)
    if not response.outputs:
        return Answer(Outcome.PENDING if response.num_unfinished_inputs else Outcome.EXPIRED)
    result = response.outputs[0].result
    return Answer(OUTCOMES.get(result.status, Outcome.CRASHED), " ".join(result.exception.split())[:2000])


def holder(claims: modal.Dict, key: str) -> str:
    """The call whose id lies under the key, '' if none does."""
    found = CALL.search(text(claims, key))
    return found[0] if found else ""


def text(claims: modal.Dict, key: str) -> str:
    """What lies under the key, a pickle, as text; '' if there is nothing."""
    try:
        claims.hydrate()
    except NotFoundError:
        return ""
    return bytes(get_raw(modal.Client.from_env(), claims.object_id, key)).decode("latin-1")


def forestall(claims: modal.Dict, key: str) -> None:
    """Take the launch, unless a call has: no call that starts from now on does its work."""
    claims.put(key, FORESTALLED, skip_if_exists=True)


def cancel(call: str) -> None:
    """End the call and its container, if there is such a call."""
    try:
        modal.FunctionCall.from_id(call).cancel(terminate_containers=True)
    except NotFoundError:
        return


def log_tail(call: str, lines: int) -> str:
    """The last lines that the call's containers wrote, '' if they cannot be had now."""
    try:
        return "".join(entry.message for entry in modal.FunctionCall.from_id(call).logs.tail(lines))
    except (Error, OSError):
        return ""
