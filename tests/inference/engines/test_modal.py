"""What only the engine on Modal has: containers that come and go, and everything that may lie in between."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Event, Thread
from typing import Any

import modal
import pytest
import torch
from modal_proto import api_pb2 as pb

from adapters.store import Store
from inference.engines import wire
from inference.engines.base import EngineBusy, EngineError
from inference.engines.in_process import worker
from inference.engines.in_process.scheduler import FAILURES
from inference.engines.modal.engine import ModalEngine
from inference.engines.modal.places import adapter_folder
from inference.engines.modal.upload import record_stack, upload_adapters
from inference.engines.types import AdapterRef, Request, StackSpec
from tests.modal_plane.plane import Plane
from tests.modal_plane.service import TOKEN
from workers.remote.inference import Inference
from workers.remote.serving import Serving

Result = pb.GenericResult


def begun(plane: Plane, before: int) -> str:
    """The id of the call that was made since there were `before`."""
    deadline = time.monotonic() + 30
    while len(plane.calls.calls) == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return list(plane.calls.calls)[-1]


def answered(plane: Plane, ask: Callable[[], Any], result: Result, data_format: Any = pb.DATA_FORMAT_CBOR) -> Any:
    """What comes of a call whose container says `result`."""
    plane.faults.hold = True
    before = len(plane.calls.calls)
    future = ask()
    plane.forge(begun(plane, before), result, data_format)
    return future.result(20)


def test_a_new_container_finds_the_stack_by_itself(world: Any, plane: Plane, on_modal: ModalEngine) -> None:
    upload_adapters(world.stack, world.store, on_modal._volume())
    record_stack(world.stack, on_modal._volume())
    plane.scale_to_zero()
    assert on_modal.status()["containers"] == 0  # nobody starts one to ask it how it is
    plane.faults.unpipelined = True
    assert on_modal.infer(world.requests(1)[0]).decision.stack == world.stack.digest
    assert world.stack.digest in on_modal.status()["stacks"]  # type: ignore[operator]
    before = plane.faults.calls["VolumePutFiles2"]
    upload_adapters(world.stack, world.store, on_modal._volume())
    assert plane.faults.calls["VolumePutFiles2"] == before


def test_what_is_wrong_with_the_account_is_said(world: Any, plane: Plane, on_modal: ModalEngine) -> None:
    request = world.requests(1)[0]
    nowhere = ModalEngine("nobody", world.store, "engine-adapters")
    with pytest.raises(EngineError, match=r"'nobody' is not deployed on Modal: run `modal deploy -m workers"):
        nowhere.infer(request)
    nowhere.close()
    never = ModalEngine("engine", world.store, "engine-adapters", version=99)
    with pytest.raises(EngineError, match="'engine' in version 99 is not deployed on Modal"):
        never.infer(request)
    never.close()
    plane.faults.fail("FunctionMap")
    with pytest.raises(EngineError, match="Modal does not answer: FunctionMap: 503"):
        on_modal.infer(request)
    plane.faults.bad_token = True
    for ask in (lambda: on_modal.infer(request), lambda: on_modal.deploy(world.stack), on_modal.status):
        with pytest.raises(EngineError, match="Modal refuses the token"):
            ask()


def test_a_token_that_is_set_later_is_found(
    world: Any, plane: Plane, on_modal: ModalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "modal.toml"
    with monkeypatch.context() as patch:
        patch.setattr("modal.config.user_config_path", str(file))
        for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
            patch.delenv(name)
        file.write_text('[default]\ntoken_id = "ak-wrong"\ntoken_secret = "as-wrong"\n')
        with pytest.raises(EngineError, match="Modal refuses the token"):
            on_modal.status()
        file.write_text(f'[default]\ntoken_id = "{TOKEN[0]}"\ntoken_secret = "{TOKEN[1]}"\n')
        assert on_modal.status()["app"] == "engine"
        assert record_stack(world.stack, on_modal._volume()) is None


def test_what_goes_wrong_on_this_machine_is_not_put_down_to_modal(
    world: Any, plane: Plane, on_modal: ModalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.engines.modal.engine.upload_adapters", lambda *_: Path("/dev/full").write_text("x"))
    with pytest.raises(EngineError, match="The disk is full"):
        on_modal.deploy(world.stack)


def test_a_request_that_finds_no_container_in_time_may_be_asked_again(
    world: Any, plane: Plane, on_modal: ModalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_modal, "deadline_s", 0.5)
    plane.faults.hold = True
    before = len(plane.calls.calls)
    with pytest.raises(EngineBusy, match="No container on Modal was free for 0 s"):
        on_modal.infer(world.requests(1)[0])
    call = plane.call(begun(plane, before))
    deadline = time.monotonic() + 20
    while call.output is None:  # and nobody answers it any more
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert call.output.result.status == Result.GENERIC_STATUS_TERMINATED


def test_a_cancelled_future_ends_its_call(world: Any, plane: Plane, on_modal: ModalEngine) -> None:
    plane.faults.hold = True
    before = len(plane.calls.calls)
    future = on_modal.submit_infer(world.requests(1)[0])
    call = plane.call(begun(plane, before))
    future.cancel()
    deadline = time.monotonic() + 20
    while call.output is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Result.GENERIC_STATUS_FAILURE, "raised an exception: no"),
        (Result.GENERIC_STATUS_TIMEOUT, "ran into its time limit: no"),
        (Result.GENERIC_STATUS_INIT_FAILURE, "could not start: no"),
        (Result.GENERIC_STATUS_TERMINATED, "was cancelled on Modal: no"),
        (Result.GENERIC_STATUS_INTERNAL_FAILURE, "was lost: no"),
    ],
)
def test_each_bad_end_is_told_apart(world: Any, plane: Plane, on_modal: ModalEngine, status: Any, words: str) -> None:
    request = world.requests(1)[0]
    for ask in (lambda: on_modal.submit_infer(request), lambda: on_modal.submit_stream(request, print)):
        with pytest.raises(EngineError, match=words):
            answered(plane, ask, Result(status=status, exception="no"))


def test_a_deploy_that_is_overtaken_by_the_end_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread would keep the process alive otherwise."""
    uploading, closed, outcome = Event(), Event(), Future[None]()

    def upload(*_: Any) -> None:
        uploading.set()
        closed.wait(20)

    def deploy() -> None:
        try:
            outcome.set_result(engine.deploy(StackSpec("sha256:base", AdapterRef("router", "sha256:router"), ())))
        except BaseException as error:
            outcome.set_exception(error)

    monkeypatch.setattr("inference.engines.modal.engine.upload_adapters", upload)
    engine = ModalEngine("engine", Store(tmp_path), "engine-adapters")
    Thread(target=deploy, daemon=True).start()
    assert uploading.wait(20)
    engine.close()
    closed.set()
    with pytest.raises(EngineError, match="The engine is closed"):
        outcome.result(20)


@pytest.mark.parametrize("unreachable", [False, True])
def test_a_container_whose_model_has_failed_for_good_leaves(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unreachable: bool
) -> None:
    """`tests/modal_plane/test_plane.py` shows what comes of that; one that cannot tell Modal ends itself."""
    left, killed = Event(), Event()

    def leave() -> None:
        left.set()
        if unreachable:
            raise ConnectionError

    def ruined(*_: Any) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("modal.experimental.stop_fetching_inputs", leave)
    monkeypatch.setattr("os.kill", lambda *_: killed.set())
    monkeypatch.setattr(worker, "look", ruined)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "small").symlink_to(world.base.path)
    for ref in (world.stack.router, *world.stack.experts):
        place = tmp_path / "checkpoints" / adapter_folder(ref.digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(world.store.path(ref.digest))
    inference = Inference(Serving(base="base:small", gpus=""), modal.Volume.from_name("nothing"), tmp_path)
    inference.load()
    inference.start()
    request = wire.dump_request(world.requests(1)[0])

    async def ask() -> list[int]:
        assert await inference.deploy(wire.dump_stack(world.stack)) == [200, b""]
        return [(await inference.route(request))[0] for _ in range(FAILURES + 1)]

    assert asyncio.run(ask()) == [503] * (FAILURES + 1)
    inference.close()
    assert (left.is_set(), killed.is_set()) == (True, unreachable)


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_that_a_container_sends_is_unpickled(
    world: Any, plane: Plane, on_modal: ModalEngine, tmp_path: Path
) -> None:
    request: Request = world.requests(1)[0]
    data = pickle.dumps(Bomb(tmp_path / "boom"))
    for status in (Result.GENERIC_STATUS_SUCCESS, Result.GENERIC_STATUS_FAILURE, Result.GENERIC_STATUS_INIT_FAILURE):
        with pytest.raises(EngineError):
            answered(
                plane, lambda: on_modal.submit_infer(request), Result(status=status, data=data), pb.DATA_FORMAT_PICKLE
            )
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x80", b"\x01", b"\x82\x18\xc8\x41\x7b", b"\x82\x18\xc8\x01"])
def test_an_answer_of_another_kind_is_an_engine_error(
    world: Any, plane: Plane, on_modal: ModalEngine, data: bytes
) -> None:
    good = Result(status=Result.GENERIC_STATUS_SUCCESS, data=data)
    with pytest.raises(EngineError):
        answered(plane, lambda: on_modal.submit_route(world.requests(1)[0]), good)
