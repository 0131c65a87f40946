"""The HTTP side, around an engine of the test's own making."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from aiohttp import web

from datasets_app.errors import InputError
from datasets_app.formats.pictures import UnsupportedImage
from inference.engines import multipart, wire
from inference.engines.base import EngineBusy, EngineError, StackNotDeployed
from inference.engines.limits import Limits, limits_env
from inference.engines.remote import RemoteEngine
from inference.engines.types import AdapterRef, Decision, Request, StackedResult, StackSpec, StreamEvent, TextDelta
from inference.server.__main__ import TOKEN as TOKEN_VARIABLE
from inference.server.__main__ import main
from inference.server.app import HOST, build_app
from inference.server.host import Host

TOKEN = "a-token"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
ROUTER = AdapterRef("router", "sha256:r")
DECISION = Decision("a", AdapterRef("a", "sha256:a"), {"a": 0.75, "none": 0.25}, ROUTER, "sha256:s", {"total": 1.5})
CALL = {"name": "x", "arguments": {"y": [1, None, "é"]}}
RESULT = StackedResult(DECISION, "é <tool_call>", CALL, 3, "stop", {"total": 2.5})
REQUEST = Request("sha256:s", b"\x00\xff", "words\n\u2028\x00", 7, "user 1", 0.25)
STACK = StackSpec("sha256:b", ROUTER, (AdapterRef("a", "sha256:a"),))


class FakeEngine:
    """Answers at once, fails on demand, or keeps requests in its queue."""

    places = 100
    is_stalled = False
    deploying = 0
    statuses = 0
    deadline_s = 60.0
    failure_of_status: Exception | None = None

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.holding = False
        self.told: list[StreamEvent] = [DECISION, TextDelta("é "), TextDelta("<tool_call>")]
        self.seen: list[Any] = []
        self.queued: list[Future[Any]] = []
        self.closed = False
        self.loadable = threading.Event()
        self.asked, self.told_status = threading.Event(), threading.Event()
        self.told_status.set()
        self.deployable = threading.Event()
        self.deployable.set()

    def load(self) -> FakeEngine:
        self.loadable.wait(10)
        return self

    def deploy(self, stack: StackSpec) -> None:
        self.deploying += 1
        self.deployable.wait(10)
        self._answer(stack, None).result()

    def submit_route(self, request: Request) -> Future[Decision]:
        return self._answer(request, DECISION)

    def submit_infer(self, request: Request) -> Future[StackedResult]:
        return self._answer(request, RESULT)

    def submit_stream(self, request: Request, on_event: Callable[[StreamEvent], None]) -> Future[StackedResult]:
        for event in self.told:
            on_event(event)
        return self._answer(request, RESULT)

    def status(self) -> dict[str, object]:
        self.statuses += 1
        self.asked.set()
        self.told_status.wait(10)
        if self.failure_of_status:
            raise self.failure_of_status
        return {"base": "sha256:b"}

    def close(self) -> None:
        self.closed = True

    def _answer(self, asked: Any, answer: Any) -> Future[Any]:
        self.seen.append(asked)
        future: Future[Any] = Future()
        if self.holding:
            self.queued.append(future)
        elif self.failure:
            future.set_exception(self.failure)
        else:
            future.set_result(answer)
        return future


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def url(fake: FakeEngine) -> Iterator[str]:
    """The address of a server that still loads `fake`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(step: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(step, loop).result(10)

    runner = web.AppRunner(
        build_app(Host(fake.load, lambda: None), TOKEN), handler_cancellation=True, shutdown_timeout=1
    )
    run(runner.setup())
    run(web.TCPSite(runner, "127.0.0.1", 0).start())
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    fake.loadable.set()
    run(runner.cleanup())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def eventually(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def ready(fake: FakeEngine, url: str) -> str:
    fake.loadable.set()
    eventually(lambda: httpx.get(f"{url}/health").status_code == 200)
    return url


@pytest.fixture
def remote(ready: str) -> Iterator[RemoteEngine]:
    client = RemoteEngine(ready, TOKEN)
    yield client
    client.close()


def test_nothing_is_lost_on_the_wire(fake: FakeEngine, remote: RemoteEngine) -> None:
    assert remote.route(REQUEST) == DECISION
    assert remote.infer(REQUEST) == RESULT
    remote.deploy(STACK)
    assert fake.seen == [REQUEST, REQUEST, STACK]
    assert remote.status() == {"base": "sha256:b"}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnsupportedImage("No PNG."), 415),
        (InputError("Wrong é."), 400),
        (StackNotDeployed("Deploy it."), 409),
        (EngineBusy("Full."), 503),
        (EngineError("Broken."), 503),
    ],
)
def test_failures_keep_their_kind(
    fake: FakeEngine, ready: str, remote: RemoteEngine, error: Exception, status: int
) -> None:
    fake.failure = error
    with pytest.raises(type(error)) as raised:
        remote.infer(REQUEST)
    assert type(raised.value) is type(error)
    assert str(raised.value) == str(error)
    answer = httpx.post(f"{ready}/route", headers=HEADERS, content=wire.dump_request(REQUEST))
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == str(error)
    assert ("retry-after" in answer.headers) == (status == 503)


def test_unforeseen_failures_say_nothing_of_themselves(fake: FakeEngine, remote: RemoteEngine) -> None:
    fake.failure = RuntimeError("/secret/path")
    with pytest.raises(EngineError, match="its log says why"):
        remote.infer(REQUEST)


def test_the_port_is_open_while_the_model_loads(fake: FakeEngine, url: str) -> None:
    assert httpx.get(f"{url}/health").status_code == 503
    client = RemoteEngine(url, TOKEN)
    with pytest.raises(EngineBusy, match="still loading"):
        client.infer(REQUEST)
    fake.loadable.set()
    eventually(lambda: httpx.get(f"{url}/health").status_code == 200)
    assert client.infer(REQUEST) == RESULT


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer a-toke", "Bearer a-tokenn", "bearer a-token", "Basic é"])
@pytest.mark.parametrize("path", ["/status", "/deploy", "/route", "/infer", "/stream", "/nothing"])
def test_every_path_but_health_needs_the_token(ready: str, path: str, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode()}
    for method in ("GET", "POST"):
        answer = httpx.request(method, f"{ready}{path}", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "unauthorized"


def test_a_wrong_token_is_told(ready: str) -> None:
    with pytest.raises(EngineError, match="unauthorized"):
        RemoteEngine(ready, "wrong").status()


@pytest.mark.parametrize("path", ["/route", "/infer", "/stream", "/deploy"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"base": "b", "router": {}, "experts": []}',
        b'{"base": "b", "router": {"name": 1, "digest": "d"}, "experts": []}',
        b"--b\r\n",
        b"--b\r\n\r\n--b--",
        b"--" + b"b" * 71 + b"\r\n\r\n--b--",
        wire.dump_request(REQUEST)[:-8],
        multipart.encode([]),
        multipart.encode([("image", "", b""), ("request", "", b"{}")]),
        multipart.encode([("request", "", b"{}"), *([("image", "", b"")] * 200)]),
    ],
    ids=lambda body: f"{len(body)}-bytes",  # a multipart boundary is another in each process
)
def test_wrong_bodies_are_refused(ready: str, path: str, body: bytes) -> None:
    answer = httpx.post(f"{ready}{path}", headers=HEADERS, content=body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize("path", ["/route", "/infer", "/stream"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stack", "\ud800"),
        ("prompt", None),
        ("max_tokens", "1"),
        ("max_tokens", True),
        ("max_tokens", math.inf),
        ("chat_template", ""),
        ("client", 1),
        ("client", "x" * 1000),
        ("waited_s", -1),
        ("waited_s", math.inf),
        ("waited_s", "1"),
    ],
)
def test_a_wrong_field_of_a_request_is_named(ready: str, path: str, field: str, value: object) -> None:
    head = {"stack": "s", "prompt": "", "max_tokens": 1, "client": "", "waited_s": 0} | {field: value}
    body = multipart.encode([("request", "", json.dumps(head).encode()), ("image", "", b"")])
    answer = httpx.post(f"{ready}{path}", headers=HEADERS, content=body)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"] or repr(field) in answer.json()["error"]["message"]


def test_an_image_is_sent_as_the_bytes_that_it_is(remote: RemoteEngine, fake: FakeEngine) -> None:
    """Whatever they are: also what looks like the end of a part."""
    for image in (b"", b"\r\n", b"\r\n--b\r\n\r\n", bytes(range(256)) * 100):
        request = replace(REQUEST, image=image)
        assert image in wire.dump_request(request)
        assert remote.infer(request) == RESULT
        assert fake.seen[-1] == request


def test_a_stalled_model_is_no_healthy_engine(fake: FakeEngine, ready: str) -> None:
    fake.is_stalled = True
    answer = httpx.get(f"{ready}/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "stalled"})
    fake.is_stalled = False
    assert httpx.get(f"{ready}/health").json() == {"status": "ok"}


def test_who_is_not_answered_is_told_soon_after_the_deadline(fake: FakeEngine, remote: RemoteEngine) -> None:
    fake.holding, fake.deadline_s = True, 0.2
    for ask in (remote.route, remote.infer, lambda request: list(remote.stream(request))[len(fake.told) :]):
        begun = time.monotonic()
        with pytest.raises(EngineBusy, match="did not answer within"):
            ask(REQUEST)
        assert time.monotonic() - begun < 5
    eventually(lambda: all(future.cancelled() for future in fake.queued))


def test_other_paths_methods_and_sizes(ready: str) -> None:
    assert httpx.get(f"{ready}/nothing", headers=HEADERS).json()["error"]["code"] == "not_found"
    assert httpx.get(f"{ready}/infer", headers=HEADERS).status_code == 405
    answer = httpx.post(f"{ready}/infer", headers=HEADERS, content=b"x" * (wire.MAX_BODY_BYTES + 1))
    assert (answer.status_code, "error" in answer.json()) == (413, True)


@pytest.mark.parametrize("path", ["/infer", "/v1/chat/completions"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x"])
def test_a_compressed_body_is_refused_as_it_is(ready: str, path: str, coding: str) -> None:
    """Never unpacked: a few kilobytes may be gigabytes."""
    for body in (b"", b"garbage" * 10, gzip.compress(b"{}")[:15]):
        answer = httpx.post(f"{ready}{path}", headers=HEADERS | {"Content-Encoding": coding}, content=body)
        assert answer.status_code == 400
        assert "Content-Encoding" in answer.json()["error"]["message"]
        assert ("type" in answer.json()["error"]) == path.startswith("/v1/")


def test_a_client_that_left_is_dropped_from_the_queue(fake: FakeEngine, ready: str) -> None:
    fake.holding = True
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{ready}/infer", headers=HEADERS, content=wire.dump_request(REQUEST), timeout=0.1)
    eventually(lambda: fake.queued and fake.queued[0].cancelled())


def test_a_slow_status_holds_nobody_up(fake: FakeEngine, ready: str, remote: RemoteEngine) -> None:
    """As that of an engine which asks Modal is; however many want to know, it is asked once."""
    fake.told_status.clear()
    with ThreadPoolExecutor(40) as callers:
        statuses = [callers.submit(remote.status) for _ in range(40)]
        assert fake.asked.wait(5)
        try:
            for _ in range(40):
                assert httpx.get(f"{ready}/health", timeout=3).status_code == 200
            assert remote.infer(REQUEST) == RESULT
            assert fake.statuses == 1
        finally:
            fake.told_status.set()
        assert [status.result(5) for status in statuses] == [{"base": "sha256:b"}] * 40
    fake.failure_of_status = EngineError("Broken.")
    with pytest.raises(EngineError, match="Broken"):
        remote.status()
    fake.failure_of_status = None
    assert remote.status() == {"base": "sha256:b"}


def test_who_finds_no_place_is_refused_at_once(fake: FakeEngine, ready: str, remote: RemoteEngine) -> None:
    """Before its body is read, so that neither bodies nor images of any number of clients pile up."""
    fake.holding, fake.places = True, 3
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(remote.infer, REQUEST) for _ in range(3)]
        eventually(lambda: len(fake.queued) == 3)
        with socket.create_connection(("127.0.0.1", int(ready.rpartition(":")[2])), 5) as left:
            head = f"POST /infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9999\r\n\r\n"
            left.sendall(head.encode())
            assert left.recv(100).startswith(b"HTTP/1.1 503")
        for path in ("/route", "/stream", "/v1/chat/completions"):
            answer = httpx.post(f"{ready}{path}", headers=HEADERS, content=b"{}")
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert httpx.get(f"{ready}/health").status_code == 200
        for future in fake.queued:
            future.set_result(RESULT)
        assert [future.result(5) for future in asked] == [RESULT] * 3
    fake.holding = False
    eventually(lambda: remote.infer(REQUEST) == RESULT)


HEAD = f"POST {{path}} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"


@pytest.mark.parametrize("sends", [True, False])
def test_who_is_too_slow_loses_the_place(
    fake: FakeEngine, ready: str, remote: RemoteEngine, monkeypatch: pytest.MonkeyPatch, sends: bool
) -> None:
    """Who does not read the answer, or send the body."""
    monkeypatch.setattr("inference.server.app.GRACE_S", 0.1)
    fake.places, fake.deadline_s = 1, 0.2
    fake.told = [DECISION, *[TextDelta("x" * 100_000)] * 300]

    def answers() -> bool:
        with suppress(EngineBusy):
            return remote.infer(REQUEST) == RESULT
        return False

    with socket.create_connection(("127.0.0.1", int(ready.rpartition(":")[2])), 5) as slow:
        body = wire.dump_request(REQUEST)
        head = HEAD.format(path="/stream") + f"Content-Length: {len(body)}\r\n\r\n"
        slow.sendall(head.encode() + body[: None if sends else -1])
        eventually(lambda: not answers())
        eventually(answers)
        with suppress(ConnectionResetError):
            while slow.recv(2**20):
                pass


def test_one_client_has_as_many_requests_under_way_as_the_engine_takes(fake: FakeEngine, remote: RemoteEngine) -> None:
    fake.holding, fake.places = True, 130
    with ThreadPoolExecutor(150) as threads:
        asked = [threads.submit(remote.infer, REQUEST) for _ in range(150)]
        eventually(lambda: len(fake.queued) == 130)
        eventually(lambda: sum(future.done() for future in asked) == 20)
        for future in fake.queued:
            future.set_result(RESULT)
        failures = [future.exception(10) for future in asked]
    assert sum(isinstance(failure, EngineBusy) for failure in failures) == 20
    assert failures.count(None) == 130


def test_cold_deploys_hold_nobody_up(fake: FakeEngine, ready: str, remote: RemoteEngine) -> None:
    """However many."""
    fake.deployable.clear()
    with ThreadPoolExecutor(40) as threads:
        deploys = [threads.submit(remote.deploy, STACK) for _ in range(40)]
        try:
            eventually(lambda: fake.deploying >= 4)
            assert [remote.infer(REQUEST) for _ in range(3)] == [RESULT] * 3
            assert remote.status() == {"base": "sha256:b"}
        finally:
            fake.deployable.set()
        assert [deploy.result(10) for deploy in deploys] == [None] * 40


def test_a_stream_tells_everything_in_order(fake: FakeEngine, remote: RemoteEngine) -> None:
    assert list(remote.stream(REQUEST)) == [*fake.told, RESULT]
    assert fake.seen == [REQUEST]


@pytest.mark.parametrize("told", [[], [DECISION]])
@pytest.mark.parametrize(
    "error", [UnsupportedImage("No PNG."), StackNotDeployed("Deploy it."), EngineBusy("Full."), EngineError("Broken.")]
)
def test_failures_of_a_stream_keep_their_kind(
    fake: FakeEngine, remote: RemoteEngine, told: list[StreamEvent], error: Exception
) -> None:
    """Before the first event and behind it."""
    fake.failure, fake.told = error, told
    events = remote.stream(REQUEST)
    assert [next(events) for _ in told] == told
    with pytest.raises(type(error), match=str(error)) as raised:
        next(events)
    assert type(raised.value) is type(error)


def test_whoever_leaves_a_stream_ends_the_request(fake: FakeEngine, remote: RemoteEngine) -> None:
    fake.holding = True
    events = remote.stream(REQUEST)
    assert next(events) == DECISION
    events.close()  # type: ignore[attr-defined]
    eventually(lambda: fake.queued[0].cancelled())


def test_nobody_at_the_address_which_is_told_without_its_password() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(EngineError, match=f"The engine is not running at http://{address}"):
        RemoteEngine(f"http://us:secret@{address}", TOKEN).status()


def test_an_answer_of_another_kind_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "[" * 100_000
    for status, text in ((200, "<html>"), (200, "{}"), (200, deep), (502, "<html>"), (500, "[]"), (500, deep)):
        transport = httpx.MockTransport(lambda _, s=status, t=text: httpx.Response(s, text=t))  # type: ignore[misc]
        client = RemoteEngine("http://engine", TOKEN)
        monkeypatch.setattr(client, "_client", httpx.Client(transport=transport, base_url="http://engine"))
        with pytest.raises(EngineError):
            client.infer(REQUEST)
        with pytest.raises(EngineError):
            next(client.stream(REQUEST))


def test_the_process_refuses_to_run_without_a_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.setattr("sys.argv", ["server", "--store", str(tmp_path), "--port", "1"])
    assert main() == 2
    assert TOKEN_VARIABLE in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH", "0"),
        ("BATCH", "many"),
        ("QUEUE", "-1"),
        ("DEADLINE", "1e9"),
        ("STACKS", "٣"),
        ("ADAPTERS", "9" * 5000),
    ],
)
def test_a_wrong_limit_is_told_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any, name: str, value: str
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    monkeypatch.setenv(f"SWITCHYARD_ENGINE_{name}", value)
    monkeypatch.setattr("sys.argv", ["server", "--store", str(tmp_path), "--port", "1"])
    assert main() == 2
    assert f"SWITCHYARD_ENGINE_{name} is {value[:40]!r}: give a whole number from 1 to " in capsys.readouterr().err


def test_limits_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Limits.from_env(on_gpu=False) == Limits()
    assert Limits.from_env(on_gpu=True) == Limits(batch=32)
    given = {"BATCH": "3", "QUEUE": "5", "DEADLINE": "90", "STACKS": "7", "ADAPTERS": "11"}
    for name, value in given.items():
        monkeypatch.setenv(f"SWITCHYARD_ENGINE_{name}", value)
    monkeypatch.setenv("SWITCHYARD_ENGINE_STORE", "elsewhere")
    for on_gpu in (False, True):
        limits = Limits.from_env(on_gpu)
        assert limits == Limits(batch=3, queue=5, deadline_s=90.0, stacks=7, adapters=11)
    assert limits_env() == {f"SWITCHYARD_ENGINE_{name}": value for name, value in given.items()}


def test_the_process_ends_with_a_failure_when_its_engine_has_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, fake: FakeEngine
) -> None:
    """So that it is started anew; until it has ended it is not ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told: list[Callable[[], object]] = []
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    monkeypatch.setattr("sys.argv", ["server", "--store", str(tmp_path), "--port", port])
    monkeypatch.setattr("inference.server.__main__.load_engine", lambda _, failed: told.append(failed) or fake)

    def fails() -> int:
        health = f"http://127.0.0.1:{port}/health"
        with httpx.Client() as client:
            eventually(lambda: reaches(client, health) == 200)
            told[0]()
            return reaches(client, health)

    def reaches(client: httpx.Client, url: str) -> int:
        try:
            return client.get(url).status_code
        except httpx.TransportError:
            return 503

    with ThreadPoolExecutor(1) as threads:
        health = threads.submit(fails)
        assert main() == 1
        assert health.result(5) == 503
    assert fake.closed
    host = Host.around(fake)
    assert host.state == "ok"
    host.fail()
    assert host.state == "failed"


def test_closing_frees_the_engine(fake: FakeEngine) -> None:
    async def serve() -> None:
        fake.loadable.set()
        runner = web.AppRunner(build_app(Host(fake.load, lambda: None), TOKEN))
        await runner.setup()
        while runner.app[HOST].state != "ok":
            await asyncio.sleep(0.01)
        await runner.cleanup()

    asyncio.run(serve())
    assert fake.closed
