"""What passes between `RemoteEngine` and the engine server; both sides use these functions only.

A request is `multipart/form-data`: the part `request`, JSON with the fields of `_RequestBody`, and the encoded image
as the part `image`. A stack, a decision and a result are their dataclasses, and every failure is
`{"error": {"code", "message"}}`. A streamed answer is a line an event,
`{"event": "decision" | "token" | "result" | "error", "data": …}`.
"""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from datasets_app.errors import InputError
from datasets_app.formats.pictures import MAX_BYTES, UnsupportedImage
from inference.engines import multipart
from inference.engines.base import EngineBusy, EngineError, StackNotDeployed
from inference.engines.types import Decision, Receipt, Request, StackedResult, StackSpec, StreamEvent, TextDelta

MAX_BODY_BYTES = MAX_BYTES * 4 // 3 + 2**20

BUSY, FAILED = "busy", "engine_error"

_ERRORS: tuple[tuple[str, type[Exception], int], ...] = (
    ("unsupported_image", UnsupportedImage, 415),
    ("invalid", InputError, 400),
    ("stack_not_deployed", StackNotDeployed, 409),
    (BUSY, EngineBusy, 503),
    (FAILED, EngineError, 503),
)
"""Code, exception and HTTP status; the first that fits counts, so subclasses come first."""


class _RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    stack: str
    prompt: str
    max_tokens: int
    client: str = Field(max_length=200)
    waited_s: float = Field(ge=0, allow_inf_nan=False)


_RECEIPT = TypeAdapter(Receipt)
_STACK, _DECISION, _RESULT = TypeAdapter(StackSpec), TypeAdapter(Decision), TypeAdapter(StackedResult)


def dump_request(request: Request) -> bytes:
    """Encode a request; `multipart.content_type` tells the type of the body."""
    head = {name: value for name, value in vars(request).items() if name != "image"}
    return multipart.encode(
        [
            ("request", "application/json", json.dumps(head).encode()),
            ("image", "application/octet-stream", request.image),
        ]
    )


def load_request(data: bytes) -> Request:
    """Decode a request; InputError naming the part or field that is wrong."""
    parts = list(multipart.decode(data))
    if [name for name, _ in parts] != ["request", "image"]:
        raise InputError("Give the part 'request', then one part 'image'.")
    try:
        body = _RequestBody.model_validate_json(parts[0][1])
    except ValidationError as error:
        raise wrong_field(error) from error
    return Request(image=parts[1][1], **body.model_dump())


def dump_stack(stack: StackSpec) -> bytes:
    """Encode a stack."""
    return _STACK.dump_json(stack)


def load_stack(data: bytes) -> StackSpec:
    """Decode a stack; InputError naming the field that is wrong."""
    try:
        return _STACK.validate_json(data)
    except ValidationError as error:
        raise wrong_field(error) from error


def dump_decision(decision: Decision) -> bytes:
    """Encode a decision."""
    return _DECISION.dump_json(decision)


def load_decision(data: bytes) -> Decision:
    """Decode a decision; ValueError if it is none."""
    return _DECISION.validate_json(data)


def dump_result(result: StackedResult) -> bytes:
    """Encode a result."""
    return _RESULT.dump_json(result)


def load_result(data: bytes) -> StackedResult:
    """Decode a result; ValueError if it is none."""
    return _RESULT.validate_json(data)


def load_receipt(data: bytes) -> Receipt:
    """A receipt, alone or within the answer that the API gave; InputError naming the field that is wrong."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("The receipt is not valid JSON.") from error
    try:
        return _RECEIPT.validate_python(found.get("receipt", found) if isinstance(found, dict) else found)
    except ValidationError as error:
        raise wrong_field(error) from error


def dump_event(event: StreamEvent | Exception) -> bytes:
    """Encode an event of a stream, or the failure that ended it, as one line."""
    match event:
        case Decision():
            name, data = "decision", dump_decision(event)
        case TextDelta():
            name, data = "token", json.dumps({"text": event.text}).encode()
        case StackedResult():
            name, data = "result", dump_result(event)
        case Exception():
            name, data = "error", dump_error(event)[1]
    return b'{"event": "%s", "data": %s}\n' % (name.encode(), data)


def load_event(line: bytes) -> StreamEvent | Exception:
    """Decode an event, or the failure that ended the stream; ValueError if it is neither."""
    match json.loads(line):
        case {"event": "decision", "data": data}:
            return _DECISION.validate_python(data)
        case {"event": "token", "data": {"text": str(text)}}:
            return TextDelta(text)
        case {"event": "result", "data": data}:
            return _RESULT.validate_python(data)
        case {"event": "error", "data": data}:
            return load_error(500, json.dumps(data).encode())
    raise ValueError("no event of a stream")


def dump_error(error: Exception) -> tuple[int, bytes]:
    """HTTP status and body for a failure."""
    status, code, message = describe(error)
    return status, error_body(code, message)


def describe(error: Exception) -> tuple[int, str, str]:
    """HTTP status, code and message of a failure; what is no engine's exception tells nothing about itself."""
    for code, kind, status in _ERRORS:
        if isinstance(error, kind):
            return status, code, str(error)
    return 500, FAILED, "The engine failed; its log says why."


def error_body(code: str, message: str) -> bytes:
    """The one shape of failures."""
    return json.dumps({"error": {"code": code, "message": message}}).encode()


def load_error(status: int, data: bytes) -> Exception:
    """The exception that `dump_error` was given."""
    try:
        error = json.loads(data)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return EngineError(f"The engine answered with status {status} and no reason.")
    for known, kind, _ in _ERRORS:
        if known == code:
            return kind(message)
    return EngineError(f"The engine refused ({code}): {message}")


def wrong_field(error: ValidationError) -> InputError:
    """The first thing that is wrong with a body, in a sentence."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return InputError(f"Field {field[:100]!r}: {first['msg']}." if field else f"{first['msg']}.")
