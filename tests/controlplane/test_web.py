"""The web process as the Procfile starts it, with as many clients as its engine takes."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from knox.models import AuthToken

from controlplane.processes import free_port, wait_until_up
from controlplane.supervisor import environment, read_procfile
from inference.engines.limits import Limits
from inference.engines.types import Request, StackedResult, StreamEvent
from tests.cast import make_champion, png
from tests.controlplane.test_processes import process
from tests.inference.api.conftest import ScriptedEngine
from tests.inference.engines.served import served

ENGINE_TOKEN = "engine-token"
PATIENCE = 120.0  # seconds, for machines that have much else to do

pytestmark = pytest.mark.django_db


class Unhurried(ScriptedEngine):
    """Decides at once, and answers when it is told to."""

    places = Limits().queue + Limits().batch
    deadline_s = PATIENCE
    is_stalled = False

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[Request, Future[StackedResult]]] = []

    def submit_stream(self, request: Request, on_event: Callable[[StreamEvent], None]) -> Future[StackedResult]:
        """Hold the answer back."""
        on_event(self.route(request))
        future: Future[StackedResult] = Future()
        self.held.append((request, future))
        return future

    def answer(self) -> None:
        """Give everybody theirs."""
        for request, future in self.held:
            future.set_result(self.infer(request))


@pytest.fixture
def engine() -> Unhurried:
    return Unhurried()


@pytest.fixture
def web(
    engine: Unhurried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The URL of a web process with a champion, and what two users send along."""
    if connection.vendor != "sqlite":
        pytest.skip("The installation is a copy of the test's database, a file.")
    make_champion()
    tokens = [AuthToken.objects.create(User.objects.create_user(name))[1] for name in ("one", "two")]
    (tmp_path / "db.sqlite3").write_bytes(connection.connection.serialize())
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    port, log = free_port(), tmp_path / "web.log"
    (procfile,) = read_procfile(["web"])
    command = ["/bin/sh", "-c", f"exec {procfile.command}"]
    with served(engine, ENGINE_TOKEN) as engine_url:
        settings = {
            "PYTHONPATH": os.pathsep.join(("platform", ".")),
            "SWITCHYARD_DATA": str(tmp_path),
            "SWITCHYARD_PORT": str(port),
            "SWITCHYARD_ENGINE_URL": engine_url,
            "SWITCHYARD_ENGINE_TOKEN": ENGINE_TOKEN,
        }
        with process(command, log, environment() | settings):
            url = f"http://127.0.0.1:{port}"
            wait_until_up(f"{url}/health", seconds=PATIENCE, log=log)
            yield url, [{"Authorization": f"Token {token}", "Accept": "text/event-stream"} for token in tokens]


def test_it_is_healthy_and_answers_while_all_places_of_the_engine_are_streams(
    web: tuple[str, list[dict[str, str]]], engine: Unhurried
) -> None:
    url, users = web
    body = {"image": base64.b64encode(png()).decode(), "prompt": "Open May 4."}
    decided = Semaphore(0)

    def read(headers: dict[str, str]) -> list[str]:
        with httpx.stream(
            "POST", f"{url}/api/v1/infer/", json=body, headers=headers, timeout=PATIENCE, trust_env=False
        ) as response:
            names = []
            for line in response.iter_lines():
                if line.startswith("event: "):
                    names.append(line.removeprefix("event: "))
                    decided.release()
            return names

    with ThreadPoolExecutor(engine.places) as clients:
        streams = [clients.submit(read, users[number % 2]) for number in range(engine.places)]
        try:
            assert all(decided.acquire(timeout=PATIENCE) for _ in streams)
            assert httpx.get(f"{url}/health", timeout=PATIENCE, trust_env=False).status_code == 200
            one_more = httpx.post(f"{url}/api/v1/infer/", json=body, timeout=PATIENCE, trust_env=False)
            assert one_more.status_code == 503
            assert int(one_more.headers["Retry-After"]) > 0
        finally:
            engine.answer()
        assert [stream.result() for stream in streams] == [["decision", "result"]] * engine.places
