"""What is refused before it is read, and who keeps whom waiting."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from rest_framework.test import APIClient

from inference.admission import Admission, get_admission
from inference.api.middleware import ASKING
from inference.api.urls import urlpatterns
from inference.engines.base import EngineBusy, EngineError
from inference.engines.types import Request, StreamEvent
from tests.cast import make_client, png

URL = "/api/v1/infer/"

pytestmark = pytest.mark.usefixtures("champion")


class Unreadable(io.BytesIO):
    """A body that must not be asked for."""

    def read(self, *size: Any) -> bytes:
        raise AssertionError("The body was read.")

    readline = readlines = __next__ = read  # type: ignore[assignment]


def body(picture: bytes = b"", **changes: Any) -> dict[str, Any]:
    return {"image": base64.b64encode(picture or png()).decode(), "prompt": "Open May 4.", **changes}


def large(side: int) -> bytes:
    out = io.BytesIO()
    Image.new("1", (side, side)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def places(settings: Any) -> Admission:
    settings.INFER_PLACES, settings.USER_PLACES = 8, 4
    get_admission.cache_clear()
    return get_admission()


def test_the_routes_that_are_refused_early_are_those_that_ask_the_engine() -> None:
    asking = [route for route in urlpatterns if getattr(route.callback.cls, "throttle_scope", "") == "infer"]  # type: ignore[union-attr]
    assert [f"/api/v1/{route.pattern}" for route in asking] and set(ASKING) == {
        f"/api/v1/{route.pattern}" for route in asking
    }


@pytest.mark.parametrize("url", ASKING)
def test_a_full_engine_refuses_before_token_and_body_are_read(
    anonymous: APIClient, reader: APIClient, engine: Any, places: Admission, url: str, django_assert_num_queries: Any
) -> None:
    for number in range(8):
        places.enter(str(-number))
    with django_assert_num_queries(0):
        answers = [client.post(url, **{"wsgi.input": Unreadable()}) for client in (anonymous, reader)]  # type: ignore[arg-type]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_busy")
        assert int(answer["Retry-After"]) > 0
    assert reader.get("/api/v1/runs/").status_code == 200
    assert reader.get("/health").status_code == 200


def test_who_has_too_many_under_way_is_refused_unread_and_others_are_not(
    reader: APIClient, engine: Any, places: Admission
) -> None:
    assert reader.post(URL, body(), format="json").status_code == 200
    client = engine.requests[0].client
    for _ in range(4):
        places.enter(client)
    answer = reader.post(URL, **{"wsgi.input": Unreadable()})  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "throttled")
    assert int(answer["Retry-After"]) > 0
    assert make_client(staff=True).post(URL, body(), format="json").status_code == 200
    assert engine.requests[-1].client not in ("", client)


def test_pixels_count_and_not_requests(reader: APIClient, engine: Any, places: Admission) -> None:
    assert reader.post(URL, body(large(4900)), format="json").status_code == 200
    with places.enter(engine.requests[0].client) as own:
        own.widen(3)
        assert reader.post(URL, body(), format="json").status_code == 200
        answer = reader.post(URL, body(large(2048)), format="json")
        assert (answer.status_code, "2 megapixels" in answer.json()["error"]["message"]) == (429, True)
    assert len(engine.requests) == 2


@pytest.mark.parametrize("failure", [None, EngineError("Down."), RuntimeError("A bug.")])
def test_places_are_given_back_however_a_request_ends(
    reader: APIClient, engine: Any, places: Admission, failure: Exception | None
) -> None:
    engine.failure, reader.raise_request_exception = failure, False
    reader.post(URL, body(), format="json")
    reader.post(URL, body(prompt=1), format="json")
    reader.post(URL, b"{", content_type="application/json")
    stream = reader.post(URL, body(stream=True), format="json")
    if stream.streaming:
        next(iter(stream.streaming_content))
    stream.close()
    for number in range(8):
        places.enter(str(-number))


def test_a_stream_holds_its_place_until_it_ends(reader: APIClient, engine: Any, places: Admission) -> None:
    streams = [reader.post(URL, body(stream=True), format="json") for _ in range(4)]
    assert reader.post(URL, body(), format="json").status_code == 429
    streams[0].close()
    assert reader.post(URL, body(), format="json").status_code == 200
    for stream in streams[1:]:
        assert b"event: result" in b"".join(stream.streaming_content)
        stream.close()


def test_an_engine_that_said_it_is_full_is_not_asked_again_at_once(
    reader: APIClient, engine: Any, places: Admission
) -> None:
    engine.failure = EngineBusy("The engine's queue is full.")
    assert reader.post(URL, body(), format="json").status_code == 503
    assert reader.post(URL, **{"wsgi.input": Unreadable()}).status_code == 503  # type: ignore[arg-type]
    assert len(engine.requests) == 1


def test_every_refusal_of_the_engine_says_when_to_come_back(reader: APIClient, engine: Any) -> None:
    engine.failure = EngineError("The engine is not running.")
    told = set()
    for _ in range(30):
        answer = reader.post(URL, body(), format="json")
        assert answer.json()["error"]["code"] == "engine_unavailable"
        told.add(int(answer["Retry-After"]))
    assert len(told) > 3 and min(told) > 0
    assert int(reader.get("/api/v1/engine/")["Retry-After"]) > 0


def test_the_engine_is_told_who_asks_and_how_long_the_request_has_waited(
    reader: APIClient, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(request: Request) -> Iterator[StreamEvent]:
        waited.append(request.waited_s)
        yield engine.infer(request).decision

    waited: list[float] = []
    monkeypatch.setattr(engine, "stream", late)
    reader.post(URL, body(stream=True), format="json").close()
    reader.post(URL, json.dumps(body()), content_type="application/json")
    assert 0 < waited[0] < 60 and 0 < engine.requests[-1].waited_s < 60
    assert len({request.client for request in engine.requests}) == 1
