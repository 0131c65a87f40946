"""Every refusal under /api/ has the one shape, and no input makes a server error."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from inference.api import errors
from tests.cast import make_router, make_run

URL = "/api/v1/infer/"
RUNS = "/api/v1/runs/"


def refused(response: Any, status: int) -> dict[str, str]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    assert set(response.json()) == {"error"}
    error: dict[str, str] = response.json()["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert all(error.values())
    return error


@pytest.mark.parametrize("path", ["/api/", "/api/v1/", "/api/v1/nothing/", "/api/v1/runs/999/", "/api/v1/adapters/x/"])
def test_404(reader: APIClient, path: str) -> None:
    """Routes and rows that do not exist."""
    assert refused(reader.get(path), 404)["code"] == "not_found"


@pytest.mark.parametrize("path", ["/api/v1/adapters/..%2f..%2fetc/", f"/api/v1/runs/{9**99}/"])
def test_hostile_paths(reader: APIClient, path: str) -> None:
    """Names that cannot be names reach no query."""
    refused(reader.get(path), 404)


@pytest.mark.parametrize("path", ["/api/v1/adapters/%00/", f"{URL}?kind=%00", f"{URL}?x=a%00", f"{URL}?%00=1"])
def test_a_nul_in_a_url_is_400(reader: APIClient, path: str) -> None:
    """PostgreSQL takes none, so it reaches no query."""
    refused(reader.get(path), 400)


def test_a_nul_in_a_page_a_token_or_a_cookie_is_400(client: Client, db: None) -> None:
    """Also where a cookie spells it as an octal number."""
    assert client.get("/admin/workers/run/?status=%00").status_code == 400
    assert client.get(RUNS, headers={"Authorization": "Token a\0"}).status_code == 400
    assert client.get("/admin/login/", headers={"Cookie": r'sessionid="aaaaaaaa\000"'}).status_code == 400


def test_405(staff: APIClient) -> None:
    """A method that the route has not."""
    assert refused(staff.put(URL, {}, format="json"), 405)["code"] == "method_not_allowed"


def test_415(staff: APIClient) -> None:
    """A type that the route does not read."""
    refused(staff.post(RUNS, "<a/>", content_type="application/xml"), 415)
    refused(staff.post(RUNS, {"kind": "train"}, format="multipart"), 415)


def test_401_comes_with_a_challenge(anonymous: APIClient) -> None:
    """And not with a redirect."""
    response = anonymous.get(RUNS)
    refused(response, 401)
    assert response["WWW-Authenticate"] == "Token"


def test_403(reader: APIClient) -> None:
    """A reader launches nothing."""
    assert refused(reader.post(RUNS, {}, format="json"), 403)["code"] == "permission_denied"


def test_csrf(django_user_model: Any, db: None) -> None:
    """A session needs its CSRF token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(django_user_model.objects.create_user("staff", is_staff=True))
    refused(client.post(RUNS, {"kind": "train"}, content_type="application/json"), 403)


HOSTILE = {
    "not json": b"{",
    "nothing": b" ",
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "closed deep lists": b"[" * 500 + b"]" * 500,
    "deep but parsable": b'{"kind": "train", "params": ' + b'{"a":' * 40 + b"1" + b"}" * 41,
    "many values": b"[" + b"1," * 200_000 + b"1]",
    "bad utf-8": b'{"kind": "\xff"}',
    "utf-16": '{"kind": "train"}'.encode("utf-16"),
    "surrogate": b'{"kind": "train", "name": "\\ud800"}',
    "surrogate key": b'{"\\ud800": 1}',
    "nested surrogate": b'{"kind": "train", "params": {"config": {"a": ["\\udfff"]}}}',
    "nul": b'{"kind": "train", "name": "\\u0000"}',
    "nested nul": b'{"kind": "train", "params": {"config": {"a\\u0000": 1}}}',
    "nan": b'{"kind": "train", "params": {"a": NaN}}',
    "infinity": b'{"kind": "train", "params": {"a": -Infinity}}',
    "1e400": b'{"kind": "train", "params": {"a": 1e400}}',
    "long integer": b'{"kind": "train", "params": {"a": ' + b"9" * 5000 + b"}}",
    "duplicate keys": b'{"kind": "train", "kind": "evaluate"}',
    "wrong type of kind": b'{"kind": {"a": 1}}',
    "wrong type of name": b'{"kind": "train", "name": 5}',
    "wrong type of params": b'{"kind": "train", "params": []}',
    "read-only field": b'{"kind": "train", "params": {}, "status": "succeeded"}',
    "unknown kind": b'{"kind": "rm"}',
    "path as a name": b'{"kind": "preprocess", "name": "../x", "params": {"dataset": "x"}}',
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_json(staff: APIClient, case: str) -> None:
    """400, and lists still work."""
    error = refused(staff.post(RUNS, HOSTILE[case], content_type="application/json"), 400)
    assert "Traceback" not in error["message"]
    assert " at 0x" not in error["message"]
    assert staff.get(RUNS).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
@pytest.mark.parametrize("path", [URL, RUNS, "/admin/login/", "/health"])
def test_413(anonymous: APIClient, settings: Any, path: str, content_type: str) -> None:
    """A body above the limit is refused whatever it is, before anything reads it."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    refused(anonymous.post(path, b"x" * 1001, content_type=content_type), 413)


def test_an_absurd_length_is_too_large(anonymous: APIClient) -> None:
    """A Content-Length of 5,000 digits too."""
    refused(anonymous.generic("POST", URL, b"x", CONTENT_LENGTH="9" * 5000), 413)


def test_broken_multipart(reader: APIClient) -> None:
    """A body that is not the form it says it is."""
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x", "multipart/form-data; boundary="):
        refused(reader.post(URL, b"nonsense", content_type=content_type), 400)


LISTS = [
    *("runs", "pipelines", "stacks", "evaluations", "adapters", "adapters/router/versions"),
    *("sources", "routing-datasets", "prepared-datasets"),
]
NO_NUMBERS = ["-1", "x", "", "1.5", "1e3", "٣", " 1", str(2**31), "9" * 5000]


@pytest.mark.parametrize("path", LISTS)
def test_paging_by_what_is_no_number_is_refused_by_every_list(reader: APIClient, path: str) -> None:
    make_router()
    for name in ("limit", "offset"):
        for text in NO_NUMBERS:
            error = refused(reader.get(f"/api/v1/{path}/", {name: text}), 400)
            assert error["message"].startswith(f"{name}: Give a whole number from ")
    assert reader.get(f"/api/v1/{path}/?limit=1000&offset=2000000000&ordering=-password").json()["results"] == []


def test_a_page_has_as_many_rows_as_asked_for(reader: APIClient) -> None:
    for number in range(3):
        make_run(f"run-{number}")
    names = [run["name"] for run in reader.get(f"{RUNS}?limit=2&offset=1").json()["results"]]
    assert names == ["run-1", "run-0"]


@pytest.mark.parametrize("query", ["status=nonsense", "kind=%00", "status=a&kind=b"])
def test_filters_take_known_values(reader: APIClient, query: str) -> None:
    """400 otherwise."""
    refused(reader.get(f"{RUNS}?{query}"), 400)


def test_a_bug_of_ours_tells_nothing(reader: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP 500 in the same shape, without the exception's words."""

    def broken() -> None:
        raise RuntimeError("secret /path")

    monkeypatch.setattr("inference.services.engine_status", broken)
    reader.raise_request_exception = False
    error = refused(reader.get("/api/v1/engine/"), 500)
    assert "secret" not in error["message"]


def test_many_problems_are_counted() -> None:
    """A message names five fields at most."""
    from rest_framework.exceptions import ValidationError

    refusal = errors.refusal_of(ValidationError({f"f{i}": ["Wrong."] for i in range(8)}))
    assert refusal is not None
    assert refusal.message.endswith("f4: Wrong. And 3 more.")
