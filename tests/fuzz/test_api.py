"""schemathesis against the web process as the Procfile starts it: no server error, no status that the schema lacks."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from knox.models import AuthToken

from controlplane.processes import free_port, wait_until_up
from controlplane.supervisor import environment, read_procfile
from tests.cast import make_champion
from tests.controlplane.test_processes import process
from tests.many import add_rows

EXAMPLES = os.environ.get("SWITCHYARD_FUZZ_EXAMPLES")  # a phase and operation, of a long run: `make fuzz`
PATIENCE = 120.0
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
LOG_IN, LOG_OUT = "/api/v1/auth/login/", "/api/v1/auth/logout/"
PASSWORD = "correct horse"
PHASES = {"superuser": "examples,coverage,fuzzing", "viewer": "examples,fuzzing"}
"""Of a short run: what writes refuses a viewer before it looks at the request."""

pytestmark = [pytest.mark.django_db, pytest.mark.long]


@dataclass(frozen=True)
class Installation:
    """A running web process, and what each kind of user sends along."""

    url: str
    schema: Path
    authorizations: dict[str, str]


@pytest.fixture(scope="module")
def installation(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """With rows of everything."""
    folder = tmp_path_factory.mktemp("installation")
    with django_db_blocker.unblock():
        if connection.vendor != "sqlite":
            pytest.skip("The installation is a copy of the test's database, a file.")
        with transaction.atomic():
            authorizations = make_rows()
            (folder / "db.sqlite3").write_bytes(connection.connection.serialize())
            transaction.set_rollback(True)
    port, log = free_port(), folder / "web.log"
    (web,) = read_procfile(["web"])
    settings = {
        "DJANGO_SETTINGS_MODULE": "tests.fuzz.settings",
        "PYTHONPATH": os.pathsep.join(("platform", ".")),
        "SWITCHYARD_DATA": str(folder),
        "SWITCHYARD_PORT": str(port),
        "DATABASE_URL": "",
        "REDIS_URL": "",
    }
    with process(["/bin/sh", "-c", f"exec {web.command}"], log, environment() | settings):
        wait_until_up(f"http://127.0.0.1:{port}/health", seconds=PATIENCE, log=log)
        url, schema = f"http://127.0.0.1:{port}", folder / "schema.yaml"
        headers = {"Authorization": authorizations["viewer"]}
        schema.write_bytes(
            httpx.get(f"{url}/api/schema/", headers=headers, timeout=PATIENCE).raise_for_status().content
        )
        yield Installation(url, schema, authorizations)


def make_rows() -> dict[str, str]:
    """Rows of everything; how each kind of user logs in."""
    make_champion()
    add_rows(range(2))
    root = User.objects.create_superuser("root", password=PASSWORD)
    users = {"superuser": root, "viewer": User.objects.create_user("viewer")}
    tokens = {name: f"Token {AuthToken.objects.create(user)[1]}" for name, user in users.items()}
    return tokens | {"password": f"Basic {base64.b64encode(f'root:{PASSWORD}'.encode()).decode()}"}


def fuzz(installation: Installation, user: str, folder: Path, *words: str) -> None:
    """Fail with schemathesis's report, which has a curl command for each finding."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run"]
    command += [str(installation.schema), "--url", installation.url]
    command += ["--header", f"Authorization: {installation.authorizations[user]}"]
    command += ["--checks", CHECKS, "--continue-on-failure", "--generation-database", "none"]
    command += ["--max-examples", EXAMPLES or "2"]
    command += [] if EXAMPLES else ["--phases", PHASES.get(user, "fuzzing")]
    done = subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-5_000:]}"


NO_HTTP = {
    b"GET\r\n\r\n": 400,
    b"\x00\xff\r\n\r\n": 400,
    b"GET /api/v1/runs/ HTTP/9.9\r\n\r\n": 400,
    b"g\xc3\xa9t /api/v1/runs/ HTTP/1.1\r\n\r\n": 400,
    b"GET /api/v1/runs/ HTTP/1.1\r\nHost\r\n\r\n": 400,
    b"GET /api/v1/runs/ HTTP/1.1\r\nHo st: x\r\n\r\n": 400,
    b"GET /api/v1/runs/ HTTP/1.1\r\nA: x\r\n y\r\n\r\n": 400,
    b"POST /api/v1/infer/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n": 400,
    b"POST /api/v1/infer/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n": 400,
    b"POST /api/v1/infer/ HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n\r\n": 400,
    b"POST /api/v1/infer/ HTTP/1.1\r\nExpect: nonsense\r\n\r\n": 400,
    b"GET /api/v1/runs/?" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n": 414,
    b"GET /api/v1/runs/ HTTP/1.1\r\nA: " + b"x" * 9000 + b"\r\n\r\n": 431,
    b"GET /api/v1/runs/ HTTP/1.1\r\n" + b"A: x\r\n" * 200 + b"\r\n": 431,
}


def answer(url: str, request: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and JSON of the answer to the very bytes."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connected:
        connected.sendall(request)
        response = HTTPResponse(connected)
        response.begin()
        return response.status, dict(response.getheaders()), json.loads(response.read())


def test_what_is_no_http_is_refused_in_the_one_error_shape(installation: Installation) -> None:
    for request, status in NO_HTTP.items():
        found, headers, body = answer(installation.url, request)
        assert (found, headers["Content-Type"]) == (status, "application/json"), request[:80]
        assert set(body["error"]) == {"code", "message", "request_id"}
    assert answer(installation.url, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[0] == 200


@pytest.mark.parametrize("user", ["superuser", "viewer"])
def test_no_request_is_answered_by_a_server_error_or_an_undocumented_status(
    installation: Installation, user: str, tmp_path: Path
) -> None:
    fuzz(installation, user, tmp_path, "--exclude-path-regex", "^/api/v1/auth/")


def test_nor_is_a_log_in_or_a_log_out(installation: Installation, tmp_path: Path) -> None:
    """Last: the first log-out that succeeds makes every later request of the superuser's a 401."""
    fuzz(installation, "password", tmp_path, "--include-path", LOG_IN)
    fuzz(installation, "superuser", tmp_path, "--include-path", LOG_OUT)
