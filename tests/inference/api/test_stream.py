"""POST /api/v1/infer/ as server-sent events."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.core.signals import request_finished
from django.db import close_old_connections
from rest_framework.test import APIClient

from inference.admission import get_admission
from inference.engines.base import EngineBusy, EngineError, StackNotDeployed
from inference.engines.types import Request, TextDelta
from tests.cast import png

URL = "/api/v1/infer/"
BODY = {"image": base64.b64encode(png()).decode(), "prompt": "Open May 4."}

pytestmark = pytest.mark.usefixtures("champion")


def events(response: Any) -> list[tuple[str, Any]]:
    """Names and data of the events of a stream."""
    assert response.status_code == 200
    assert response["Content-Type"] == "text/event-stream"
    found = []
    for block in b"".join(response.streaming_content).decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


@pytest.mark.parametrize("asked", [{"body": {"stream": True}}, {"accept": "text/event-stream"}])
def test_decision_tokens_and_result(reader: APIClient, engine: Any, asked: dict[str, Any]) -> None:
    """Whether the body or the Accept header asks for it; the result is what the plain answer would be."""
    headers = {"accept": asked["accept"]} if "accept" in asked else {}
    response = reader.post(URL, BODY | asked.get("body", {}), format="json", headers=headers)
    (first, decision), *tokens, (last, result) = events(response)
    assert (first, last) == ("decision", "result")
    assert decision["adapter"] == "calendar"
    assert {name for name, _ in tokens} == {"token"}
    assert "".join(data["text"] for _, data in tokens) == result["text"]
    assert result == reader.post(URL, BODY, format="json").json()
    assert result["receipt"]["answer"]


def test_no_line_of_a_stream_ends_within_a_text(
    reader: APIClient, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its clients take for the end of a line."""
    said = "one\u2028two\u2029three\x85four\x0b\x0c\x1c\r\n"
    result = replace(engine.infer(Request("sha256:stack", png(), "x")), text=said)
    monkeypatch.setattr(engine, "stream", lambda _: iter([result.decision, TextDelta(said), result]))
    response = reader.post(URL, BODY | {"stream": True}, format="json")
    lines = b"".join(response.streaming_content).decode().splitlines()
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert len(lines) == 3 * len(told) == 9
    assert [data["text"] for data in told[1:]] == [said, said]


def test_a_form_may_ask_for_a_stream(reader: APIClient, engine: Any) -> None:
    """With the word true, and not by leaving the field out."""
    from django.core.files.uploadedfile import SimpleUploadedFile

    for value, streams in (("true", True), ("false", False), (None, False)):
        form = {"image": SimpleUploadedFile("a.png", png()), "prompt": "x"} | ({"stream": value} if value else {})
        assert reader.post(URL, form).streaming is streams


@pytest.mark.parametrize("value", [1, 0, "true", "yes", None, []])
def test_stream_is_true_or_false(reader: APIClient, engine: Any, value: Any) -> None:
    """Nothing that only looks like it."""
    response = reader.post(URL, BODY | {"stream": value}, format="json")
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("stream: ")


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
@pytest.mark.parametrize(("failure", "status"), [(EngineBusy("Full."), 503), (EngineError("Down."), 503)])
def test_what_fails_before_the_decision_is_a_refusal(
    reader: APIClient, engine: Any, failure: Exception, status: int, accept: str
) -> None:
    """In JSON with its status, as without a stream."""
    engine.failure = failure
    response = reader.post(URL, BODY | {"stream": True}, format="json", headers={"accept": accept})
    assert response.status_code == status
    assert response.json()["error"]["message"] == str(failure)
    get_admission.cache_clear()  # a full engine is not asked again at once
    refused = reader.post(URL, {"prompt": "x"}, format="json", headers={"accept": accept})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_input")


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (EngineError("The engine broke off."), "engine_unavailable", "The engine broke off."),
        (RuntimeError("/secret/path"), "server_error", "Something went wrong on our side."),
    ],
)
def test_what_fails_later_is_the_last_event(
    reader: APIClient, engine: Any, failure: Exception, code: str, message: str
) -> None:
    """In the one shape of errors."""
    engine.breaks = failure
    told = events(reader.post(URL, BODY | {"stream": True}, format="json"))
    assert [name for name, _ in told] == ["decision", "token", "error"]
    assert told[-1][1]["error"]["code"] == code
    assert told[-1][1]["error"]["message"] == message
    assert told[-1][1]["error"]["request_id"]


@pytest.fixture
def kept_connection() -> Iterator[None]:
    """The end of a response leaves the connection, and the test's transaction in it, as Django's own client has it."""
    request_finished.disconnect(close_old_connections)
    yield
    request_finished.connect(close_old_connections)


@pytest.mark.usefixtures("kept_connection")
def test_a_client_that_leaves_closes_the_engine_s_stream(reader: APIClient, engine: Any) -> None:
    """Also one that never reads."""
    for read in (0, 2):
        response = reader.post(URL, BODY | {"stream": True}, format="json")
        parts = iter(response.streaming_content)
        for _ in range(read):
            next(parts)
        before = engine.closed_streams
        response.close()
        assert engine.closed_streams == before + 1


def test_a_stack_that_the_engine_lost_is_deployed_again(
    reader: APIClient, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without a stream."""
    route = engine.route

    def once(request: Any) -> Any:
        if not engine.stacks:
            raise StackNotDeployed("Deploy it.")
        return route(request)

    monkeypatch.setattr(engine, "route", once)
    assert events(reader.post(URL, BODY | {"stream": True}, format="json"))[-1][0] == "result"
    assert len(engine.stacks) == 1
