"""What the backend `modal` makes of each thing that Modal may say. No container starts here: no machine is free."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import modal
import pytest
from django.contrib.auth.models import User
from django.test import Client
from modal_proto import api_pb2 as pb
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from datasets_app.errors import InputError
from datasets_app.formats.digest import folder_digest
from datasets_app.room import is_disk_full
from tests.cast import make_run
from tests.modal_plane.plane import Plane
from tests.modal_plane.service import TOKEN
from workers.checks import check_compute
from workers.compute.modal import ModalCompute
from workers.compute.modal.account import Volume, speaking
from workers.compute.modal.fetching import _bring
from workers.compute.modal.staging import stage, upload, write
from workers.compute.types import ComputeUnavailable, JobSpec, JobState
from workers.models import Run
from workers.recipes.manifest import ManifestError, write_manifest
from workers.remote.names import Names
from workers.remote.places import is_reference, pointer, resolve, run_folder
from workers.remote.signs import Sign, Signs, sign_key
from workers.services import account_problems, look_at_account
from workers.states import Status

Result = pb.GenericResult


@pytest.fixture
def compute(plane: Plane, modal_app: str, tmp_path: Path) -> ModalCompute:
    plane.faults.hold = True
    plane.dicts.dicts.setdefault("di-switchyard-claims", {})
    return ModalCompute(str(tmp_path), app=modal_app)


@pytest.fixture
def job() -> JobSpec:
    key = uuid.uuid4().hex
    return JobSpec("generate_dataset", key, f"work-{key}", {"samples_per_class": -1})


def call_of(handle: str) -> str:
    return handle.partition("/")[2]


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (Result.GENERIC_STATUS_FAILURE, JobState.FAILED, "raised an exception: ValueError('no')"),
        (Result.GENERIC_STATUS_TIMEOUT, JobState.FAILED, "ran into its time limit"),
        (Result.GENERIC_STATUS_INIT_FAILURE, JobState.FAILED, "could not start"),
        (Result.GENERIC_STATUS_TERMINATED, JobState.CANCELLED, "was cancelled"),
        (Result.GENERIC_STATUS_INTERNAL_FAILURE, JobState.LOST, "was lost"),
        (Result.GENERIC_STATUS_KERNEL_OOM_KILL, JobState.LOST, "was lost"),
        (Result.GENERIC_STATUS_SUCCESS, JobState.LOST, "left no result"),
    ],
)
def test_each_end_is_told_apart(
    plane: Plane, compute: ModalCompute, job: JobSpec, status: Any, state: JobState, words: str
) -> None:
    handle = compute.submit(job)
    assert compute.poll(handle).state == JobState.PENDING
    plane.forge(call_of(handle), Result(status=status, exception="ValueError('no')"))
    seen = compute.poll(handle)
    assert seen.state == state
    assert words in seen.error


def test_an_expired_call_without_a_result_is_lost_and_one_with_it_is_not(
    plane: Plane, compute: ModalCompute, job: JobSpec
) -> None:
    handle = compute.submit(job)
    plane.expire(call_of(handle))
    assert "keeps nothing" in compute.poll(handle).error
    folder = plane.volume("moe-lora-data") / run_folder(job.launch_key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps({"state": "succeeded", "summary": {"digest": "x"}}))
    assert compute.poll(handle).state == JobState.SUCCEEDED


class Evil:
    """Unpickling it leaves a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("status", [Result.GENERIC_STATUS_SUCCESS, Result.GENERIC_STATUS_FAILURE])
@pytest.mark.parametrize("data_format", [pb.DATA_FORMAT_UNSPECIFIED, pb.DATA_FORMAT_PICKLE])
def test_what_a_worker_sends_is_never_unpickled(
    plane: Plane, compute: ModalCompute, job: JobSpec, tmp_path: Path, status: Any, data_format: Any
) -> None:
    handle, trace = compute.submit(job), tmp_path / "trace"
    evil = pickle.dumps(Evil(trace))
    plane.forge(call_of(handle), Result(status=status, data=evil, serialized_tb=evil), data_format)
    plane.dicts.dicts["di-switchyard-claims"][_dict_key(job.launch_key)] = evil
    assert compute.poll(handle).state in (JobState.LOST, JobState.FAILED)
    assert not trace.exists()
    pickle.loads(evil)  # noqa: S301 - the trap works
    assert trace.exists()


def _dict_key(key: str) -> bytes:
    from modal._serialization import serialize

    return bytes(serialize(key))


def test_a_launch_is_spawned_once_even_if_the_first_handle_is_forgotten(
    plane: Plane, compute: ModalCompute, job: JobSpec
) -> None:
    first = compute.submit(job)
    before = len(plane.calls.calls)
    assert compute.submit(job) == first
    assert len(plane.calls.calls) == before


def test_a_call_that_lost_the_race_follows_the_one_that_won(plane: Plane, compute: ModalCompute, job: JobSpec) -> None:
    handle = compute.submit(job)
    winner = "fc-0123456789"
    plane.dicts.dicts["di-switchyard-claims"][_dict_key(job.launch_key)] = pickle.dumps(winner)
    assert compute.poll(handle).handle == f"{job.launch_key}/{winner}"


def test_a_claimed_call_without_a_container_waits_and_costs_nothing_meanwhile(
    plane: Plane, compute: ModalCompute, job: JobSpec
) -> None:
    """As one that was preempted while no GPU is free."""
    handle = compute.submit(job)
    claims = plane.dicts.dicts["di-switchyard-claims"]
    claims[_dict_key(job.launch_key)] = pickle.dumps(call_of(handle))
    states = {}
    for ago in (10, 10_000):
        claims[_dict_key(sign_key(job.launch_key))] = pickle.dumps(str(Sign(100, time.time() - ago)))
        seen = compute.poll(handle)
        states[seen.state] = seen.seconds
    assert states == {JobState.RUNNING: pytest.approx(110, abs=5), JobState.PENDING: 130}
    plane.forge(call_of(handle), Result(status=Result.GENERIC_STATUS_INTERNAL_FAILURE))
    lost = compute.poll(handle)
    assert (lost.state, lost.seconds) == (JobState.LOST, 130)
    folder = plane.volume("moe-lora-data") / run_folder(job.launch_key)
    folder.mkdir(parents=True, exist_ok=True)
    for held, seconds in ((50, 50), ("much", 130), (float("inf"), 1e8), (float("nan"), 0)):
        (folder / "result.json").write_text(json.dumps({"state": "failed", "held": held}))
        assert compute.poll(handle).seconds == seconds


def test_a_launch_is_cancelled_by_its_key_alone(plane: Plane, compute: ModalCompute, job: JobSpec) -> None:
    handle = compute.submit(job)
    compute.cancel(job.launch_key)
    assert compute.poll(handle).state == JobState.CANCELLED


def test_a_call_that_is_cancelled_takes_its_unknown_twin_along(
    plane: Plane, compute: ModalCompute, job: JobSpec
) -> None:
    """As after an answer that was lost: two calls, and a handle of one."""
    plane.faults.lose("FunctionMap")
    handle = compute.submit(job)
    compute.cancel(handle)
    claims = plane.dicts.dicts["di-switchyard-claims"]
    assert _dict_key(job.launch_key) in claims  # whichever call starts now finds the launch taken, and leaves
    assert compute.poll(handle).state == JobState.CANCELLED


@pytest.mark.parametrize("fault", ["fail", "refuse"])
def test_a_known_call_is_ended_while_the_dict_takes_no_write_and_the_cancel_is_still_owed(
    plane: Plane, compute: ModalCompute, job: JobSpec, fault: str
) -> None:
    handle = compute.submit(job)
    getattr(plane.faults, fault)("DictUpdate")
    with pytest.raises(ComputeUnavailable):
        compute.cancel(handle)
    assert compute.poll(handle).state == JobState.CANCELLED


def test_the_call_that_was_first_is_ended_with_the_known_one_while_the_dict_takes_no_write(
    plane: Plane, compute: ModalCompute, job: JobSpec
) -> None:
    loser = compute.submit(job)
    winner = compute.submit(replace(job, launch_key=uuid.uuid4().hex))
    plane.dicts.dicts["di-switchyard-claims"][_dict_key(job.launch_key)] = pickle.dumps(call_of(winner))
    plane.faults.refuse("DictUpdate")
    with pytest.raises(ComputeUnavailable):
        compute.cancel(loser)
    assert compute.poll(winner).state == JobState.CANCELLED


def test_a_launch_is_taken_though_its_known_call_cannot_be_ended(
    plane: Plane, compute: ModalCompute, job: JobSpec
) -> None:
    handle = compute.submit(job)
    plane.faults.refuse("FunctionCallCancel")
    with pytest.raises(ComputeUnavailable):
        compute.cancel(handle)
    assert _dict_key(job.launch_key) in plane.dicts.dicts["di-switchyard-claims"]


def left(plane: Plane, job: JobSpec, **files: object) -> None:
    """What a container has left on the volume, by the files' stems."""
    folder = plane.volume("moe-lora-data") / run_folder(job.launch_key)
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in files.items():
        name = stem if stem == "sign" else f"{stem}.json"
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_job_is_followed_and_its_seconds_counted_while_the_dict_cannot_be_read(
    plane: Plane, compute: ModalCompute, job: JobSpec
) -> None:
    handle = compute.submit(job)
    left(plane, job, claim={"call": call_of(handle), "starts": [0, time.time() - 50]})
    plane.faults.refuse("DictGet")
    seen = compute.poll(handle)
    assert (seen.state, seen.seconds) == (JobState.RUNNING, pytest.approx(50, abs=5))
    left(plane, job, sign=str(Sign(100, time.time() - 10)))
    assert compute.poll(handle).seconds == pytest.approx(110, abs=5)
    plane.forge(call_of(handle), Result(status=Result.GENERIC_STATUS_INTERNAL_FAILURE))
    assert compute.poll(handle).state == JobState.LOST


def test_a_dict_that_cannot_be_read_tells_nothing_of_a_job_that_has_not_begun(
    plane: Plane, compute: ModalCompute, job: JobSpec
) -> None:
    handle = compute.submit(job)
    plane.faults.refuse("DictGet")
    with pytest.raises(ComputeUnavailable):
        compute.poll(handle)


def test_the_signs_that_a_job_gives_on_the_volume_count_where_those_in_the_dict_have_stopped(
    plane: Plane, compute: ModalCompute, job: JobSpec
) -> None:
    handle = compute.submit(job)
    claims = plane.dicts.dicts["di-switchyard-claims"]
    claims[_dict_key(job.launch_key)] = pickle.dumps(call_of(handle))
    claims[_dict_key(sign_key(job.launch_key))] = pickle.dumps(str(Sign(100, time.time() - 1000)))
    left(plane, job, sign=str(Sign(1090, time.time() - 10)))
    seen = compute.poll(handle)
    assert (seen.state, seen.seconds) == (JobState.RUNNING, pytest.approx(1100, abs=5))


def test_a_job_says_on_its_volume_what_the_dict_does_not_take(
    plane: Plane, modal_app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims, volume = modal.Dict.from_name("switchyard-claims", create_if_missing=True), Committed()
    claims.hydrate()
    plane.faults.refuse("DictUpdate")
    monkeypatch.setattr("workers.remote.signs.EVERY", 0.1)
    (tmp_path / "sign").write_text(str(Sign(40, time.time())))
    signs = Signs(claims, uuid.uuid4().hex, volume, tmp_path)  # type: ignore[arg-type]
    assert volume.committed.wait(30)
    held = signs.end()
    said = Sign.read((tmp_path / "sign").read_text())
    assert said is not None
    assert 40 <= said.held <= held < 70


class Committed:
    """A volume that remembers whether it was told to commit."""

    def __init__(self) -> None:
        self.committed = threading.Event()

    def commit(self) -> None:
        self.committed.set()


def test_an_account_that_is_not_set_up_is_named(
    plane: Plane, compute: ModalCompute, job: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="'nobody' is not deployed on Modal: run `modal deploy"):
        ModalCompute(str(compute.root), app="nobody").submit(job)
    monkeypatch.setattr("workers.compute.modal.account.code_mark", lambda: "code-" + "0" * 16)
    with pytest.raises(InputError, match="runs other code"):
        compute.submit(job)
    plane.faults.bad_token = True
    with pytest.raises(ComputeUnavailable, match="refuses the token"):
        compute.submit(job)


@pytest.fixture
def foreign(plane: Plane, modal_app: str) -> Iterator[int]:
    """A version of the app, the newest, that somebody deployed with other code; its number."""
    layouts = plane.apps.deployed["switchyard"].layouts
    ours = layouts[-1]
    other = type(ours)()
    other.CopyFrom(ours)
    for name in [name for name in other.function_ids if name.startswith("code-")]:
        other.function_ids["code-" + "0" * 16] = other.function_ids.pop(name)
    layouts.append(other)
    yield len(layouts)
    layouts.pop()


def test_a_pinned_version_is_the_one_that_is_checked(compute: ModalCompute, job: JobSpec, foreign: int) -> None:
    compute.version = foreign - 1
    assert compute.problems() == []
    assert compute.poll(compute.submit(job)).state == JobState.PENDING
    compute.version = None
    assert "The app 'switchyard' on Modal runs other code" in compute.problems()[0]
    compute.version = foreign
    assert f"Version {foreign} of the app 'switchyard' on Modal runs other code" in compute.problems()[0]
    compute.version = foreign + 1
    (problem,) = compute.problems()
    assert problem.startswith(f"The app 'switchyard' on Modal has no version {foreign + 1}: ")
    with pytest.raises(InputError, match="has no version"):
        compute.submit(replace(job, launch_key="another"))
    compute.names = replace(compute.names, app="nobody")
    assert "'nobody' is not deployed" in compute.problems()[0]


def test_the_check_says_in_a_line_each_what_is_missing(
    plane: Plane, compute: ModalCompute, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.checks.get_compute", lambda name: compute)
    assert check_compute() == []
    compute.names = Names(app="nobody", sources="nothing")
    missing = [error.msg for error in check_compute()]
    assert "'nobody' is not deployed" in missing[0]
    assert "no volume 'nothing'" in missing[1]
    plane.faults.bad_token = True
    assert "refuses the token" in check_compute()[0].msg


def test_an_api_that_fails_is_no_end(plane: Plane, compute: ModalCompute, job: JobSpec) -> None:
    handle = compute.submit(job)
    plane.faults.fail("FunctionGetOutputs")
    with pytest.raises(ComputeUnavailable, match="does not answer"):
        compute.poll(handle)
    plane.faults.clear()
    plane.faults.hold = True
    assert compute.poll(handle).state == JobState.PENDING


def test_a_signed_address_that_does_not_answer_is_told_without_its_signature() -> None:
    request = aiohttp.RequestInfo(
        URL("https://bucket.example.com/a?Signature=KEY"), "GET", CIMultiDictProxy(CIMultiDict())
    )
    with pytest.raises(ComputeUnavailable) as silent, speaking():
        raise aiohttp.ClientResponseError(request, (), status=403, message="Forbidden")
    assert str(silent.value) == (
        "Modal does not answer: 403, message='Forbidden', url='https://bucket.example.com/\N{HORIZONTAL ELLIPSIS}'."
    )


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_a_manifest_cannot_name_files_elsewhere(plane: Plane, compute: ModalCompute, job: JobSpec, name: str) -> None:
    handle = compute.submit(job)
    folder = plane.volume("moe-lora-data") / run_folder(job.launch_key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({name: {"sha256": "0", "size": 1}}))
    with pytest.raises(ManifestError, match="no file of the job's"):
        compute.outputs(handle)


def test_outputs_come_with_progress_and_what_came_before_stays(
    plane: Plane, compute: ModalCompute, job: JobSpec
) -> None:
    handle = compute.submit(job)
    folder = plane.volume("moe-lora-data") / run_folder(job.launch_key)
    (folder / "out" / "images").mkdir(parents=True)
    for number in range(20):
        (folder / "out" / "images" / f"{number}.png").write_bytes(bytes([number]) * 1000)
    write_manifest(folder / "out", folder)
    (last := folder / "out" / "images" / "19.png").rename(folder / "away")
    with pytest.raises(ManifestError, match=r"19\.png is missing"):
        compute.outputs(handle)
    (folder / "away").rename(last)
    moved, seen = plane.faults.calls["VolumeGetFile2"], []
    out = compute.outputs(handle, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (20_000, 20_000)
    assert sorted(seen) == seen
    assert (out / "images" / "7.png").read_bytes() == bytes([7]) * 1000
    assert plane.faults.calls["VolumeGetFile2"] - moved < 20


def test_what_goes_wrong_on_this_machine_is_not_put_down_to_modal(
    plane: Plane, compute: ModalCompute, job: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = compute.submit(job)
    folder = plane.volume("moe-lora-data") / run_folder(job.launch_key)
    (folder / "out").mkdir(parents=True)
    (folder / "out" / "weights").write_bytes(bytes(1000))
    write_manifest(folder / "out", folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "0").symlink_to("/dev/full")
    with monkeypatch.context() as patch, pytest.raises(OSError) as full:
        patch.setattr("workers.compute.modal.fetching.tempfile.mkdtemp", lambda **_: str(tmp_path / "full"))
        compute.outputs(handle)
    assert is_disk_full(full.value)
    (compute.root / job.launch_key / "out").rmdir()
    (compute.root / job.launch_key / "out").write_text("in the way")
    with pytest.raises(FileExistsError):
        compute.outputs(handle)


class Cut(Exception):  # noqa: N818 - as Celery's, a signal
    """The time of a task is over."""


class SlowVolume:
    """Has a small file, and one whose second block comes when the line is free."""

    def __init__(self) -> None:
        self.begun, self.free, self.ended = (threading.Event() for _ in range(3))

    @property
    def volume(self) -> SlowVolume:
        return self

    def read_file(self, path: str) -> Iterator[bytes]:
        yield b"1"
        if path.endswith("large"):
            try:
                self.begun.set()
                self.free.wait(20)
                yield b"2"
            finally:
                self.ended.set()


def test_a_fetch_that_is_interrupted_waits_for_no_download_and_leaves_nothing_half(tmp_path: Path) -> None:
    volume, out = SlowVolume(), tmp_path / "out"
    out.mkdir()
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
             for name, data in (("small", b"1"), ("large", b"12"))}  # fmt: skip

    def cut(done: int, total: int) -> None:
        assert volume.begun.wait(20)
        raise Cut

    with pytest.raises(Cut):
        _bring(volume, "out", out, files, cut)  # type: ignore[arg-type]
    assert not volume.ended.is_set()
    volume.free.set()
    assert volume.ended.wait(20)
    assert {path.name for path in tmp_path.rglob("*")} == {"out", "small"}
    _bring(volume, "out", out, files, lambda done, total: None)  # type: ignore[arg-type]
    assert (out / "large").read_bytes() == b"12"
    assert [path.name for path in tmp_path.glob("*")] == ["out"]


def test_an_upload_that_was_cut_short_goes_on_where_it_was(plane: Plane, compute: ModalCompute, tmp_path: Path) -> None:
    folder, volume = tmp_path / "input", Volume("moe-lora-data", None)
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(f"{name} {uuid.uuid4()}")
    place = upload(folder, volume)
    (kept,) = [path for path in plane.volume("moe-lora-data").glob("content/*") if path.read_text() == place]
    kept.unlink()  # the pointer is written last: as if it had not come to that
    plane.volume("moe-lora-data").joinpath(place, "b").unlink()
    written = plane.volume("moe-lora-data").joinpath(place, "a").stat().st_mtime_ns
    assert upload(folder, volume) == place
    assert plane.volume("moe-lora-data").joinpath(place, "b").read_text() == (folder / "b").read_text()
    assert plane.volume("moe-lora-data").joinpath(place, "a").stat().st_mtime_ns == written
    before = plane.faults.calls["VolumePutFiles2"]
    assert upload(folder, volume) == place
    assert plane.faults.calls["VolumePutFiles2"] == before


@pytest.mark.parametrize("gone", ["inputs", "a"])
def test_inputs_that_were_removed_from_the_volume_go_up_again(
    plane: Plane, compute: ModalCompute, tmp_path: Path, gone: str
) -> None:
    folder, volume = tmp_path / "input", Volume("moe-lora-data", None)
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(f"{name} {uuid.uuid4()}")
    place = upload(folder, volume)
    volume.volume.remove_file("inputs" if gone == "inputs" else f"{place}/{gone}", recursive=True)
    assert upload(folder, volume) == place
    stored = plane.volume("moe-lora-data") / place
    assert {path.name: path.read_text() for path in stored.iterdir()} == {
        path.name: path.read_text() for path in folder.iterdir()
    }


def test_outputs_that_were_removed_from_the_volume_go_up_as_an_input(
    plane: Plane, compute: ModalCompute, tmp_path: Path
) -> None:
    folder, volume = tmp_path / "input", Volume("moe-lora-data", None)
    folder.mkdir()
    (folder / "a").write_text(str(uuid.uuid4()))
    write(volume, pointer(folder_digest(folder)), b"runs/pruned/out")
    assert upload(folder, volume).startswith("inputs/")


def test_the_device_of_this_machine_is_no_business_of_the_rented_one(compute: ModalCompute, tmp_path: Path) -> None:
    spec = {"data": str(tmp_path / "nothing"), "device": "cuda:1", "seed": 1}
    volumes = {role: Volume(name, None) for role, name in compute.names.volumes.items()}
    assert stage("train", spec, volumes).keys() == {"data", "seed", "base"}


def test_references_become_folders_and_nothing_else_does() -> None:
    spec = {"a": {"volume": "data", "path": "x"}, "b": [{"volume": "base", "path": "y"}], "volume": "z", "path": "w"}
    assert resolve(spec, Path("/vol")) == {"a": "/vol/data/x", "b": ["/vol/base/y"], "volume": "z", "path": "w"}
    assert not is_reference({"volume": {"volume": "data", "path": "x"}, "path": "p"})


def test_the_web_process_never_imports_modal(tmp_path: Path) -> None:
    code = (
        "import sys; from workers.compute.modal import ModalCompute; "
        f"c = ModalCompute({str(tmp_path)!r}); print(repr(c.logs('x/fc-1')), 'modal' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["''", "False"]


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has never spoken with Modal, and has no token."""
    monkeypatch.delenv("MODAL_TOKEN_ID")
    modal.Client._set_env_client(None)
    yield
    modal.Client._set_env_client(None)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("no_token", "There is no Modal token: run `modal token new`, or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET."),
        ("bad_token", "Modal refuses the token: Token validation failed. Set one with `modal token set`."),
        ("app", "The app 'nobody' is not deployed on Modal: run `modal deploy -m workers.modal_app`."),
        ("code", "The app 'switchyard' on Modal runs other code than this installation: run `modal deploy -m"),
        ("volume", "There is no volume 'nothing' on Modal: run `modal deploy -m workers.modal_app`, which creates it."),
        ("silent", "Modal does not answer: FunctionGet: 503 upstream connect error."),
    ],
)
@pytest.mark.django_db
def test_each_fault_of_the_account_is_one_line_in_the_check_the_admin_and_the_runs_error(
    plane: Plane,
    compute: ModalCompute,
    job: JobSpec,
    fault: str,
    sentence: str,
    settings: Any,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    settings.COMPUTE_DEFAULT = "modal"
    for where in ("workers.checks", "workers.services.account"):
        monkeypatch.setattr(f"{where}.get_compute", lambda name: compute)
    match fault:
        case "no_token":
            request.getfixturevalue("no_token")
        case "bad_token":
            plane.faults.bad_token = True
        case "app":
            compute.names = replace(compute.names, app="nobody")
        case "code":
            monkeypatch.setattr("workers.compute.modal.account.code_mark", lambda: "code-" + "0" * 16)
        case "volume":
            compute.names = replace(compute.names, sources="nothing")
        case "silent":
            plane.faults.fail("FunctionGet")
    (error,) = check_compute()
    assert sentence in error.msg and "\n" not in error.msg
    with pytest.raises((InputError, ComputeUnavailable)) as refused:
        compute.submit(job)
    assert sentence in str(refused.value)
    look_at_account()
    client.force_login(User.objects.create_superuser("root"))
    calls = sum(plane.faults.calls.values())
    for page in ("/admin/workers/run/", "/admin/workers/run/add/", "/admin/workers/pipeline/"):
        assert sentence in unescape(client.get(page).content.decode())
    assert sum(plane.faults.calls.values()) == calls  # a page asks nobody
    settings.COMPUTE_DEFAULT = "local"
    look_at_account()
    assert account_problems() == []


def test_a_token_that_is_set_later_is_found(
    plane: Plane, compute: ModalCompute, no_token: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "modal.toml"
    monkeypatch.delenv("MODAL_TOKEN_SECRET")
    monkeypatch.setattr("modal.config.user_config_path", str(file))
    assert "There is no Modal token" in compute.problems()[0]
    file.write_text('[default]\ntoken_id = "ak-wrong"\ntoken_secret = "as-wrong"\n')
    assert "refuses the token" in compute.problems()[0]
    file.write_text("[default")
    assert "refuses the token" in compute.problems()[0]
    file.write_text(f'[default]\ntoken_id = "{TOKEN[0]}"\ntoken_secret = "{TOKEN[1]}"\n')
    assert compute.problems() == []


@pytest.mark.django_db
def test_a_missing_token_is_named_while_something_is_fetched(
    compute: ModalCompute, no_token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.services.account.get_compute", lambda name: compute)
    run = make_run(status=Status.QUEUED, kind=Run.Kind.FETCH)
    look_at_account()
    assert [problem.partition(":")[0] for problem in account_problems()] == ["There is no Modal token"]
    Run.objects.filter(pk=run.pk).update(status=Status.SUCCEEDED)
    look_at_account()
    assert account_problems() == []


@pytest.mark.django_db
def test_the_account_is_no_business_of_those_who_may_not_see_runs(settings: Any, client: Client) -> None:
    file = Path(settings.COMPUTE["modal"]["OPTIONS"]["root"]) / "account.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('["Something."]')
    assert account_problems() == ["Something."]
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert client.get("/admin/workers/run/").status_code == 403
    os.utime(file, (0, 0))
    assert account_problems() == []  # that was long ago
    file.write_text("broken")
    assert account_problems() == []
    file.unlink()
