"""The plane itself: what it shows of Modal, and that it fails loudly where it shows nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import modal
import pytest
from modal_proto import api_pb2 as pb

from tests.modal_plane.plane import Plane


def cli(*words: str) -> str:
    """Run the modal CLI; what it printed."""
    command = [sys.executable, "-m", "modal", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def toy(modal_plane: Plane) -> modal.Function:
    cli("deploy", "-m", "tests.modal_plane.toy")
    return modal.Function.from_name("toy", "work")


def begun(plane: Plane, call: modal.FunctionCall, starts: int = 1) -> None:
    """Wait until a container works on the call, for the so-manieth time."""
    deadline = time.monotonic() + 60
    while plane.call(call.object_id).starts < starts or plane.call(call.object_id).container is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_deployed_function_answers_and_its_volume_and_log_are_seen_outside(plane: Plane, toy: modal.Function) -> None:
    call = toy.spawn("one")
    assert "one" in call.get(timeout=60)
    assert b"".join(modal.Volume.from_name("toy-data").read_file("one")) == b"dark green"
    assert any("one is mine" in entry.message for entry in call.logs.tail(20))


def test_a_claim_is_won_once(plane: Plane, toy: modal.Function) -> None:
    first, second = toy.spawn("claim"), toy.spawn("claim")
    first.get(timeout=60), second.get(timeout=60)
    written = "".join(entry.message for call in (first, second) for entry in call.logs.tail(20))
    assert written.count("claim is mine") == 1


def test_the_cli_runs_a_local_entrypoint_and_shows_the_log(plane: Plane) -> None:
    printed = cli("run", "-m", "tests.modal_plane.toy", "--words", "entry")
    assert "entry is mine" in printed
    assert "entry:" in printed


def test_files_go_up_and_down_by_block(plane: Plane, toy: modal.Function) -> None:
    volume, data = modal.Volume.from_name("toy-data"), os.urandom(9 * 2**20)
    with volume.batch_upload() as batch:
        batch.put_file(__file__, "up/test.py")
    (plane.volume("toy-data") / "big").write_bytes(data)
    assert b"".join(volume.read_file("big")) == data
    assert [entry.path for entry in volume.listdir("up")] == ["up/test.py"]


def test_a_preempted_call_starts_again_under_its_id(plane: Plane, toy: modal.Function) -> None:
    call = toy.spawn("sleep-1")
    begun(plane, call)
    plane.preempt(call.object_id)
    begun(plane, call, starts=2)
    with pytest.raises(TimeoutError):
        call.get(timeout=0)
    call.cancel(terminate_containers=True)


def test_a_container_that_wants_to_leave_answers_what_it_has_and_is_replaced(plane: Plane, toy: modal.Function) -> None:
    """Whichever of its threads says so."""
    call = toy.spawn("leave")
    assert "leave" in call.get(timeout=60)
    task = plane.call(call.object_id).output.task_id  # type: ignore[union-attr]
    (left,) = [container for container in plane.machines.started if container.id == task]
    after = toy.spawn("after")
    assert "after" in after.get(timeout=60)
    assert plane.call(after.object_id).output.task_id != task  # type: ignore[union-attr]
    deadline = time.monotonic() + 60
    while left in plane.machines.containers:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert left.process.returncode == 0


def test_each_way_to_end_is_another_error(plane: Plane, toy: modal.Function) -> None:
    calls = {name: toy.spawn(f"sleep-{name}") for name in ("crash", "timeout", "cancel")}
    for call in calls.values():
        begun(plane, call)
    plane.crash(calls["crash"].object_id)
    plane.time_out(calls["timeout"].object_id)
    calls["cancel"].cancel(terminate_containers=True)
    calls["expired"] = toy.spawn("expired")
    calls["expired"].get(timeout=60)
    plane.expire(calls["expired"].object_id)
    expected = {
        "crash": modal.exception.InternalFailure,
        "timeout": modal.exception.FunctionTimeoutError,
        "cancel": modal.exception.RemoteError,
        "expired": modal.exception.OutputExpiredError,
    }
    for name, error in expected.items():
        with pytest.raises(error):
            calls[name].get(timeout=20)


def test_what_is_lost_or_refused_on_the_way(plane: Plane, toy: modal.Function) -> None:
    plane.faults.lose("FunctionMap")
    before = len(plane.calls.calls)
    toy.spawn("lost")
    assert len(plane.calls.calls) == before + 2  # the client asked again, and both were accepted
    plane.faults.fail("FunctionMap")
    with pytest.raises(modal.exception.ServiceError):
        toy.spawn("refused")
    assert len(plane.calls.calls) == before + 2
    plane.faults.bad_token = True
    with pytest.raises(modal.exception.AuthError):
        toy.spawn("refused")


def test_a_call_that_is_not_there_names_itself(plane: Plane, toy: modal.Function) -> None:
    with pytest.raises(modal.exception.UnimplementedError, match="VolumeRename"):
        modal.Volume.rename("toy-data", "toy-other")


def test_nothing_starts_while_no_machine_is_free(plane: Plane, toy: modal.Function) -> None:
    plane.faults.hold = True
    call = toy.spawn("held")
    with pytest.raises(TimeoutError):
        call.get(timeout=0.3)
    call.cancel()
    assert plane.call(call.object_id).output.result.status == pb.GenericResult.GENERIC_STATUS_TERMINATED  # type: ignore[union-attr]
