"""What the entry points of `modal run` make of a name: one job, whoever starts it and however often."""

from __future__ import annotations

import json
import pickle
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import modal
import pytest
from modal._serialization import serialize
from modal_proto import api_pb2 as pb

from datasets_app.errors import InputError
from tests.modal_plane.plane import Plane
from workers.remote.direct import Direct
from workers.remote.names import Names
from workers.remote.signs import sign_key

NAMES = Names()
PATIENCE = 500.0  # seconds, of a crowded machine
WRONG: dict[str, Any] = {"sources": []}
Start = Callable[..., "Future[dict[str, Any]]"]
T = TypeVar("T")


def eventually(look: Callable[[], T]) -> T:
    """What it returns as soon as that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.fixture
def direct(plane: Plane, modal_app: str) -> Direct:
    volumes = {role: modal.Volume.from_name(name) for role, name in NAMES.volumes.items()}
    return Direct(volumes, modal.Dict.from_name(NAMES.claims, create_if_missing=True))


@pytest.fixture
def start(direct: Direct, modal_app: str) -> Iterator[Start]:
    """`start(name, spec)` draws a dataset under the name, as an operator at a terminal of his own does."""
    function = modal.Function.from_name(modal_app, "generate_dataset_job")
    with ThreadPoolExecutor() as pool:
        yield lambda name, spec: pool.submit(direct.run, function, "generate_dataset", name, spec)


@pytest.fixture
def name() -> str:
    return f"direct-{uuid.uuid4().hex}"


@pytest.fixture
def spec(samples: dict[str, Path]) -> dict[str, Any]:
    """Of a job that succeeds."""
    sources = [{"label": name, "path": str(samples[name])} for name in ("calendar", "claim-window")]
    return {"sources": sources, "samples_per_class": 10}


class Evil:
    """Unpickling it leaves a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("status", [pb.GenericResult.GENERIC_STATUS_SUCCESS, pb.GenericResult.GENERIC_STATUS_FAILURE])
def test_what_a_container_returns_or_claims_is_never_unpickled_here(
    plane: Plane, start: Start, name: str, tmp_path: Path, status: Any
) -> None:
    evil = pickle.dumps(Evil(tmp_path / "trace"))
    plane.faults.hold = True
    plane.dicts.dicts.setdefault("di-switchyard-claims", {})[bytes(serialize(name))] = evil
    before = set(plane.calls.calls)
    job = start(name, WRONG)
    (call,) = eventually(lambda: set(plane.calls.calls) - before)
    plane.forge(call, pb.GenericResult(status=status, data=evil, serialized_tb=evil), pb.DATA_FORMAT_PICKLE)
    plane.calls.waiting.clear()
    with pytest.raises(InputError, match="left no result"):
        job.result(PATIENCE)
    assert not (tmp_path / "trace").exists()


def test_what_others_claim_is_never_unpickled_in_a_container(
    plane: Plane, modal_app: str, name: str, tmp_path: Path
) -> None:
    claims = plane.dicts.dicts.setdefault("di-switchyard-claims", {})
    claims[bytes(serialize(name))] = pickle.dumps(Evil(tmp_path / "trace"))
    launch = {"kind": "generate_dataset", "launch_key": name, "work_key": name, "spec": WRONG}
    call = modal.Function.from_name(modal_app, "generate_dataset_job").spawn(json.dumps(launch))
    plane.wait(call.object_id)
    assert not (tmp_path / "trace").exists()
    assert "taken by another call" in plane.machines.started[-1].log.read_text()


def test_a_name_that_has_succeeded_answers_the_same_question_again_and_no_other(
    plane: Plane, start: Start, name: str, spec: dict[str, Any], tmp_path: Path
) -> None:
    signs = plane.dicts.dicts.setdefault("di-switchyard-claims", {})
    signs[bytes(serialize(sign_key(name)))] = pickle.dumps(Evil(tmp_path / "trace"))
    found = start(name, spec).result(PATIENCE)
    assert not (tmp_path / "trace").exists()
    calls = len(plane.calls.calls)
    assert start(name, spec).result(PATIENCE) == found
    with pytest.raises(InputError, match=r"samples_per_class \(10 there, 20 here\)"):
        start(name, {**spec, "samples_per_class": 20}).result(PATIENCE)
    assert len(plane.calls.calls) == calls


def claimed(plane: Plane, name: str, before: set[str]) -> str:
    """The call that was spawned since, which has taken the name."""
    (call,) = eventually(lambda: set(plane.calls.calls) - before)
    plane.dicts.dicts["di-switchyard-claims"][bytes(serialize(name))] = pickle.dumps(call)
    return call


def test_a_job_that_is_under_way_is_waited_for_and_not_started_again(
    plane: Plane, start: Start, name: str, spec: dict[str, Any]
) -> None:
    plane.faults.hold = True
    before = set(plane.calls.calls)
    first = start(name, spec)
    call = claimed(plane, name, before)
    second = start(name, spec)
    plane.faults.hold = False
    assert first.result(PATIENCE) == second.result(PATIENCE)
    assert set(plane.calls.calls) - before == {call}


def test_of_two_that_start_the_same_name_at_once_one_works_and_both_have_its_result(
    plane: Plane, start: Start, name: str, spec: dict[str, Any]
) -> None:
    plane.faults.hold = True
    before = set(plane.calls.calls)
    jobs = [start(name, spec), start(name, spec)]
    eventually(lambda: len(set(plane.calls.calls) - before) == 2)
    plane.faults.hold = False
    first, second = (job.result(PATIENCE) for job in jobs)
    assert first == second
    logs = [container.log.read_text() for container in plane.machines.started[-2:]]
    assert sum("taken by another call" in log for log in logs) == 1


def test_a_job_that_was_lost_or_failed_is_started_again_under_its_name(
    plane: Plane, start: Start, name: str, spec: dict[str, Any]
) -> None:
    plane.faults.hold = True
    before = set(plane.calls.calls)
    job = start(name, spec)
    call = claimed(plane, name, before)
    plane.forge(call, pb.GenericResult(status=pb.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE, exception="gone"))
    with pytest.raises(InputError, match=r"left no result.*crashed.*gone"):
        job.result(PATIENCE)
    plane.calls.waiting.clear()
    plane.faults.hold = False
    with pytest.raises(InputError, match="sources: "):
        start(name, WRONG).result(PATIENCE)
    assert start(name, spec).result(PATIENCE)["metadata"]["samples_per_class"] == 10


def test_a_word_is_a_finished_run_or_a_folder_on_a_volume(
    plane: Plane, direct: Direct, start: Start, name: str
) -> None:
    checkpoint = plane.volume("moe-lora-checkpoints") / name / "final"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter_config.json").write_text("{}")
    assert direct.folder(f"checkpoints:{name}") == {"volume": "checkpoints", "path": name}
    assert direct.adapter(name, "checkpoints") == {"volume": "checkpoints", "path": f"{name}/final"}
    with pytest.raises(InputError, match="neither a finished run nor a folder"):
        direct.folder("nothing")
    with pytest.raises(InputError, match="there is no volume 'elsewhere'"):
        direct.folder("elsewhere:x")
    with pytest.raises(InputError, match="holds no router"):
        direct.labels(direct.adapter(name, "checkpoints"))
