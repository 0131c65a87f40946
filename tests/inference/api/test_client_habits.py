"""What curl, SDKs and proxies do to requests."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from knox.models import AuthToken
from rest_framework.test import APIClient

from adapters.models import Stack
from tests.cast import png
from tests.inference.api.conftest import ScriptedEngine
from tests.inference.api.test_error_shape import refused

URL = "/api/v1/infer/"
IMAGE = base64.b64encode(png()).decode()
LINES = "\n".join(IMAGE[at : at + 76] for at in range(0, len(IMAGE), 76)) + "\n"


def upload() -> SimpleUploadedFile:
    return SimpleUploadedFile("a.png", png(), "image/png")


@pytest.mark.parametrize(
    "image",
    [
        LINES,
        LINES.replace("\n", "\r\n"),
        f"data:image/png;base64,{IMAGE}",
        f"data:image/png;base64,{LINES}",
        f"DATA:;base64,{IMAGE}",
        base64.urlsafe_b64encode(png()).decode(),
        IMAGE.rstrip("="),
    ],
    ids=["lines", "crlf", "data url", "data url in lines", "bare data url", "url-safe", "no padding"],
)
def test_an_image_is_taken_as_clients_write_base64(
    reader: APIClient, engine: ScriptedEngine, champion: Stack, image: str
) -> None:
    assert reader.post(URL, {"image": image, "prompt": "x"}, format="json").status_code == 200
    assert reader.post(URL, {"image": image, "prompt": "x"}, format="multipart").status_code == 200
    assert [request.image for request in engine.requests] == [png(), png()]


@pytest.mark.parametrize("image", ["", "?", "data:image/png,abc", "https://example.com/a.png", IMAGE + "=A", "é" * 8])
def test_what_is_no_base64_is_refused_with_what_would_be(
    reader: APIClient, engine: ScriptedEngine, champion: Stack, image: str
) -> None:
    error = refused(reader.post(URL, {"image": image, "prompt": "x"}, format="json"), 400)
    assert error["message"].startswith("image: ")
    assert "base64" in error["message"]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"image": [upload(), upload()], "prompt": "x"}, "image"),
        ({"image": upload(), "prompt": ["x", "y"]}, "prompt"),
        ({"image": upload(), "prompt": "x", "max_tokens": ["4", "5"]}, "max_tokens"),
    ],
    ids=["two images", "two prompts", "two numbers"],
)
def test_a_field_given_twice_in_a_form_is_refused(
    reader: APIClient, engine: ScriptedEngine, champion: Stack, fields: dict[str, Any], name: str
) -> None:
    error = refused(reader.post(URL, fields, format="multipart"), 400)
    assert error["message"] == f"{name}: This field is given twice."


def test_an_image_as_file_and_as_text_at_once_is_refused(
    reader: APIClient, engine: ScriptedEngine, champion: Stack
) -> None:
    body = (
        '--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc\r\n'
        '--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nabc\r\n--x--\r\n'
    )
    error = refused(reader.post(URL, body.encode(), content_type="multipart/form-data; boundary=x"), 400)
    assert error["message"] == "image: This field is given twice."


@pytest.mark.parametrize("text", ["True", "true", "TRUE", "on", "1", "yes"])
def test_a_form_says_true_as_clients_spell_it(
    reader: APIClient, engine: ScriptedEngine, champion: Stack, text: str
) -> None:
    response = reader.post(URL, {"image": upload(), "prompt": "x", "stream": text}, format="multipart")
    assert response["Content-Type"] == "text/event-stream"


@pytest.mark.parametrize("text", ["False", "off", "0", "no"])
def test_a_form_says_false_as_clients_spell_it(
    reader: APIClient, engine: ScriptedEngine, champion: Stack, text: str
) -> None:
    response = reader.post(URL, {"image": upload(), "prompt": "x", "stream": text}, format="multipart")
    assert response["Content-Type"] == "application/json"


@pytest.mark.parametrize("charset", ["utf-16", "hex", "rot13", "undefined", "utf-7", "no-such"])
def test_the_charset_of_a_form_is_no_server_error(
    reader: APIClient, engine: ScriptedEngine, champion: Stack, charset: str
) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nabc\r\n--x--\r\n'
    content_type = f"multipart/form-data; boundary=x; charset={charset}"
    error = refused(reader.post(URL, body, content_type=content_type), 400)
    assert error["message"] == "image: This field is required."


@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_a_path_without_its_slash_is_redirected_with_method_and_body(client: Client, method: str) -> None:
    response = getattr(client, method)("/api/v1/infer?a=b")
    error = refused(response, 308)
    assert response["Location"] == "/api/v1/infer/?a=b"
    assert error["message"] == "The path ends in a slash: /api/v1/infer/"


@pytest.mark.django_db
@pytest.mark.parametrize("scheme", ["Token", "token", "Bearer", "bearer"])
def test_a_token_is_taken_under_either_scheme(client: Client, scheme: str) -> None:
    _, token = AuthToken.objects.create(User.objects.create_user("reader"))
    assert client.get("/api/v1/runs/", headers={"Authorization": f"{scheme} {token}"}).status_code == 200
    wrong = client.get("/api/v1/runs/", headers={"Authorization": f"{scheme} {token[::-1]}"})
    assert refused(wrong, 401)["message"] == "Invalid token."
    assert wrong["WWW-Authenticate"] == scheme.title()


@pytest.mark.django_db
def test_without_credentials_the_answer_says_which_to_send(client: Client) -> None:
    assert "Authorization: Token" in refused(client.get("/api/v1/runs/"), 401)["message"]
    assert "Authorization: Basic" in refused(client.post("/api/v1/auth/login/"), 401)["message"]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate, gzip"])
@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x"])
def test_a_compressed_body_is_refused_by_that_name(
    reader: APIClient, engine: ScriptedEngine, champion: Stack, encoding: str, content_type: str
) -> None:
    body = gzip.compress(json.dumps({"image": IMAGE, "prompt": "x"}).encode())
    response = reader.post(URL, body, content_type=content_type, headers={"Content-Encoding": encoding})
    assert "Content-Encoding" in refused(response, 415)["message"]


def test_a_byte_order_mark_before_a_body_is_read_over(
    reader: APIClient, engine: ScriptedEngine, champion: Stack
) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"image": IMAGE, "prompt": "x"}).encode()
    assert reader.post(URL, body, content_type="application/json").status_code == 200


FORWARDED: dict[str, Callable[[int], str]] = {
    "address": lambda _: "203.0.113.9",
    "address and port": lambda number: f"203.0.113.7:{50_000 + number}",
    "IPv6 and port": lambda number: f"[2001:db8::7]:{50_000 + number}",
    "IPv6": lambda _: "2001:db8::8",
    "IPv6 in brackets": lambda _: "[2001:db8::9]",
    "quoted": lambda number: f'"[2001:db8::a]:{50_000 + number}"',
    "mapped": lambda number: f"[::ffff:203.0.113.8]:{50_000 + number}",
}


@pytest.mark.django_db
@pytest.mark.parametrize("form", FORWARDED)
def test_wrong_tokens_are_counted_by_the_address_whatever_its_port(client: Client, settings: Any, form: str) -> None:
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    answers = [
        client.get(
            "/api/v1/adapters/",
            headers={"Authorization": f"Token {'a' * 64}", "X-Forwarded-For": FORWARDED[form](number)},
        ).status_code
        for number in range(26)
    ]
    assert answers == [401] * 20 + [429] * 6


@pytest.mark.django_db
@pytest.mark.parametrize("form", FORWARDED)
def test_wrong_passwords_lock_out_that_address_alone(client: Client, settings: Any, form: str) -> None:
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    headers = {"Authorization": f"Basic {base64.b64encode(b'nobody:x').decode()}"}

    def log_in(forwarded: str) -> int:
        return client.post("/api/v1/auth/login/", headers={**headers, "X-Forwarded-For": forwarded}).status_code

    assert {log_in(FORWARDED[form](number)) for number in range(12)} == {401, 429}
    assert log_in(FORWARDED[form](13)) == 429
    assert log_in("198.51.100.99:1234") == 401
