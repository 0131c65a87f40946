"""POST /api/v1/infer/."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from datasets_app.errors import InputError
from inference.engines import wire
from inference.engines.base import EngineBusy, EngineError, StackNotDeployed
from tests.cast import png

URL = "/api/v1/infer/"

pytestmark = pytest.mark.usefixtures("champion")


def upload(data: bytes = b"", name: str = "screen.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data or png(), "image/png")


def body(**changes: Any) -> dict[str, Any]:
    return {"image": base64.b64encode(png()).decode(), "prompt": "Open May 4.", **changes}


def test_a_form_is_answered(reader: APIClient, engine: Any) -> None:
    """Everything a caller may want to know of the answer is in it."""
    response = reader.post(URL, {"image": upload(), "prompt": "Open May 4.", "max_tokens": "64"})
    assert response.status_code == 200
    answer = response.json()
    assert answer["adapter"] == answer["label"] == "calendar"
    assert answer["version"] == "sha256:expert"
    assert answer["router"] == "sha256:router"
    assert answer["probabilities"] == {"calendar": 0.9, "claim-window": 0.1}
    assert answer["tool_call"] == {"name": "click", "arguments": {"x": 1}}
    assert answer["tokens"] == 9
    assert answer["finish_reason"] == "stop"
    assert answer["timings"] == {"route": 12.0, "generate": 80.0}
    assert answer["receipt"]["expert"] == {
        "name": "calendar", "digest": "sha256:expert", "template": "sha256:template",
        "min_pixels": 1024, "max_pixels": 4096, "proven": False,
    }  # fmt: skip
    assert wire.load_receipt(response.content) == engine.infer(engine.requests[0]).receipt
    assert engine.requests[0].max_tokens == 64
    assert engine.requests[0].image == png()


def test_json_is_answered(reader: APIClient, engine: Any, champion: Any) -> None:
    """The image travels as base64."""
    assert reader.post(URL, body(), format="json").status_code == 200
    assert engine.requests[0].image == png()
    assert engine.requests[0].stack == champion.digest


@pytest.mark.parametrize("value", [0, -1, 1025, 10**9, 10**400, True, "64", 1.5, None, [1], {"a": 1}])
def test_max_tokens_is_a_strict_integer(reader: APIClient, engine: Any, value: Any) -> None:
    """Only 1 to 1024."""
    response = reader.post(URL, body(max_tokens=value), format="json")
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("max_tokens: ")


@pytest.mark.parametrize("value", ["1e3", "-5", "٣", "true"])
def test_max_tokens_in_a_form_is_digits(reader: APIClient, engine: Any, value: str) -> None:
    """Forms hold text, so digits count; nothing else does."""
    response = reader.post(URL, {"image": upload(), "prompt": "x", "max_tokens": value})
    assert response.status_code == 400


@pytest.mark.parametrize("field", ["chat_template", "mm_processor_kwargs", "adapter", "stack", "image_url"])
def test_unknown_fields_are_refused(reader: APIClient, engine: Any, field: str) -> None:
    """Nothing is ignored."""
    response = reader.post(URL, body(**{field: "x"}), format="json")
    assert response.status_code == 400
    assert response.json()["error"]["message"] == f"{field}: This field is not known."
    assert not engine.requests


@pytest.mark.parametrize("value", [None, 5, True, [], {}, "", " ", "x" * 8193])
def test_the_prompt_is_text(reader: APIClient, engine: Any, value: Any) -> None:
    """Of bounded length."""
    assert reader.post(URL, body(prompt=value), format="json").status_code == 400


@pytest.mark.parametrize("value", [None, 5, True, [], {}, "", "http://127.0.0.1/", "no base64", "AAA", "\u00e9"])
def test_the_image_is_base64(reader: APIClient, engine: Any, value: Any) -> None:
    """Anything else is refused; an address is never fetched."""
    response = reader.post(URL, body(image=value), format="json")
    assert response.status_code in {400, 415}


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html><script>alert(1)</script>",
        b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9",
        b"%PDF-1.7",
        b"\0" * 100,
    ],
)
def test_other_formats_are_unsupported(reader: APIClient, engine: Any, data: bytes) -> None:
    """Whatever the name and the declared type say."""
    response = reader.post(URL, {"image": upload(data), "prompt": "x"})
    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"


def test_an_empty_file_is_refused(reader: APIClient, engine: Any) -> None:
    """As no image at all."""
    response = reader.post(URL, {"image": SimpleUploadedFile("a.png", b""), "prompt": "x"})
    assert response.status_code in {400, 415}


def test_a_giant_image_is_refused_from_its_header(reader: APIClient, engine: Any) -> None:
    """10 KB that would decode to 400 MB."""
    out = io.BytesIO()
    Image.new("1", (16_000, 16_000)).save(out, "PNG")
    response = reader.post(URL, {"image": upload(out.getvalue()), "prompt": "x"})
    assert response.status_code == 400


def test_without_a_champion_there_is_no_service(reader: APIClient, engine: Any, champion: Any) -> None:
    """503, and what to do."""
    champion.aliases.all().delete()
    response = reader.post(URL, body(), format="json")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_unavailable"


def test_a_busy_engine_says_when_to_come_back(reader: APIClient, engine: Any) -> None:
    """503 with Retry-After."""
    engine.failure = EngineBusy("The queue is full.")
    response = reader.post(URL, body(), format="json")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_busy"
    assert int(response["Retry-After"]) > 0


def test_an_engine_that_is_down_is_unavailable(reader: APIClient, engine: Any) -> None:
    """503."""
    engine.failure = EngineError("The engine does not answer.")
    assert reader.post(URL, body(), format="json").status_code == 503


def test_a_stack_that_cannot_be_loaded_is_no_fault_of_the_caller(
    reader: APIClient, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, not 400; the reason is in the log."""
    engine.failure = StackNotDeployed("Deploy it.")

    def refuse(stack: Any) -> None:
        raise InputError("Adapter 'calendar': The adapter is a no-op.")

    monkeypatch.setattr(engine, "deploy", refuse)
    response = reader.post(URL, body(), format="json")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "engine_unavailable")
    assert response.json()["error"]["message"] == "The stack that serves cannot be loaded; the log says why."


def test_a_user_has_a_rate_for_requests_and_another_for_the_rest(
    reader: APIClient, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {**SimpleRateThrottle.THROTTLE_RATES, "infer": "3/min", "user": "1/min"}
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", rates)
    answers = [reader.post(URL, body(), format="json") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[-1]["Retry-After"]) > 0
    assert [reader.get("/api/v1/runs/").status_code for _ in range(2)] == [200, 429]


def test_anonymous_is_refused(anonymous: APIClient, engine: Any) -> None:
    """401, before the body is read."""
    response = anonymous.post(URL, body(), format="json")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "not_authenticated"
