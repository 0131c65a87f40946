"""Each fault at each step of a launch on Modal: at most one call works for one attempt, every run ends, and what people
see says which fault it was. Few containers start here, for the smallest job: what a call does is told by its claim."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F
from modal._serialization import serialize
from modal_proto import api_pb2 as pb

from adapters.services import register_adapter
from datasets_app.models import RoutingDataset
from datasets_app.samples.source import write_source
from datasets_app.services import register_source
from tests.cast import make_run
from tests.modal_plane.plane import Plane
from workers.compute import get_compute
from workers.compute.modal import ModalCompute
from workers.compute.types import JobSpec, JobState
from workers.models import Attempt, Run
from workers.services import advance_all, cancel, launch
from workers.states import Status

Drive = Callable[..., Run]
Result = pb.GenericResult

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def impatient(settings: Any, plane: Plane, modal_app: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Poll at once, wait for nothing."""
    modal = {**settings.COMPUTE["modal"], "POLL": timedelta(0)}
    settings.COMPUTE = {**settings.COMPUTE, "modal": modal}
    settings.COMPUTE_DEFAULT = "modal"
    monkeypatch.setattr("workers.services.silence.BACKOFF", (timedelta(0), timedelta(0)))
    yield
    get_compute.cache_clear()


@pytest.fixture
def params(db: None, tmp_path: Path) -> dict[str, object]:
    """Parameters of a run whose inputs are new: they have to be uploaded."""
    names = ("calendar", "claim-window")
    for name in names:
        folder = write_source(name, tmp_path / name, 3, seed=uuid.uuid4().int % 2**31)
        register_adapter(name, source=register_source(name, folder))
    return {"adapters": list(names), "samples_per_class": 3}


STEPS = {
    "look up the app": "FunctionGet",
    "upload inputs": "VolumePutFiles2",
    "spawn": "FunctionMap",
    "poll": "FunctionGetOutputs",
}
FAULTS = ("slow", "5xx", "lost acknowledgement", "bad token")
SEEN = {"5xx": "Modal does not answer", "bad token": "Modal refuses the token"}


def strike(plane: Plane, fault: str, rpc: str, *, inside: bool = False) -> None:
    match fault:
        case "slow":
            plane.faults.slow(rpc, 0.3, inside=inside)
        case "5xx":
            plane.faults.fail(rpc, 2 if inside else 10**6, inside=inside)
        case "lost acknowledgement":
            plane.faults.lose(rpc, inside=inside)
        case "bad token":
            plane.faults.bad_token = True


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_a_step_costs_no_second_job_and_is_named(
    plane: Plane, params: dict[str, object], drive: Drive, fault: str, step: str
) -> None:
    plane.faults.hold = True
    before = set(plane.calls.calls)
    run = launch("generate_dataset", params)
    if step == "poll":
        drive(run, until=lambda run: run.status == Status.RUNNING)
    strike(plane, fault, STEPS[step])
    if words := SEEN.get(fault):
        run = drive(run, until=lambda run: bool(run.trouble))
        assert words in run.trouble
        plane.faults.clear()
        plane.faults.hold = True
    run = drive(run, until=lambda run: run.status == Status.RUNNING and not run.trouble)
    spawned = set(plane.calls.calls) - before
    assert run.attempts.count() == 1
    assert len(spawned) == (2 if (fault, step) == ("lost acknowledgement", "spawn") else 1)
    cancel(run)
    assert drive(run).status == Status.CANCELLED
    key = run.attempts.get().launch_key
    claims = plane.dicts.dicts["di-switchyard-claims"]
    assert b"fc-" not in claims[serialize(key)]  # no call took the launch, and none that starts now can
    assert any(plane.call(call).output is not None for call in spawned)


CANCEL = {"take the launch": "DictUpdate", "end the call": "FunctionCallCancel"}


@pytest.mark.parametrize("step", CANCEL)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_a_step_of_a_cancel_is_named_and_leaves_no_job(
    plane: Plane, params: dict[str, object], drive: Drive, fault: str, step: str
) -> None:
    plane.faults.hold = True
    run = drive(launch("generate_dataset", params), until=lambda run: run.status == Status.RUNNING)
    strike(plane, fault, CANCEL[step])
    cancel(run)
    if words := SEEN.get(fault):
        run = drive(run, until=lambda run: bool(run.trouble))
        assert words in run.trouble
        assert run.status == Status.RUNNING
        plane.faults.clear()
        plane.faults.hold = True
    run = drive(run)
    assert (run.status, run.error, run.attempts.get().outcome) == (Status.CANCELLED, "", "cancelled")
    key, _, call = run.attempts.get().handle.partition("/")
    assert b"fc-" not in plane.dicts.dicts["di-switchyard-claims"][serialize(key)]
    assert plane.call(call).output.result.status == Result.GENERIC_STATUS_TERMINATED  # type: ignore[union-attr]


@pytest.mark.parametrize("fault", ["fail", "refuse"])
def test_a_run_out_of_time_ends_with_its_call_while_the_dict_takes_no_write(
    plane: Plane, params: dict[str, object], drive: Drive, fault: str
) -> None:
    plane.faults.hold = True
    run = drive(launch("generate_dataset", params, time_limit=3600), until=lambda run: run.status == Status.RUNNING)
    call = run.attempts.get().handle.partition("/")[2]
    getattr(plane.faults, fault)("DictUpdate")
    Run.objects.update(started_at=F("started_at") - timedelta(seconds=3601))
    run = drive(run)
    assert (run.status, run.error) == (Status.FAILED, "It did not end within 3600 s.")
    assert plane.call(call).output.result.status == Result.GENERIC_STATUS_TERMINATED  # type: ignore[union-attr]
    assert run.attempts.get().cancel_due_at is not None  # a twin may start yet
    plane.faults.clear()
    advance_all()
    assert run.attempts.get().cancel_due_at is None


def test_a_run_over_its_cap_ends_while_the_dict_cannot_be_used(
    plane: Plane, params: dict[str, object], drive: Drive, settings: Any
) -> None:
    settings.COMPUTE["modal"] |= {"MAX_PER_RUN": 0.5, "PRICES": {"cpu": 0.01}, "TIME_LIMITS": {"generate_dataset": 40}}
    plane.faults.hold = True
    run = drive(launch("generate_dataset", params), until=lambda run: run.status == Status.RUNNING)
    attempt = run.attempts.get()
    folder = plane.volume("moe-lora-data") / "runs" / attempt.launch_key
    folder.mkdir(parents=True, exist_ok=True)
    call = attempt.handle.partition("/")[2]
    (folder / "claim.json").write_text(json.dumps({"call": call, "starts": [time.time() - 100]}))
    for rpc in ("DictUpdate", "DictGet"):
        plane.faults.refuse(rpc)
    run = drive(run)
    assert (run.status, run.error[:16]) == (Status.FAILED, "It has cost $1.0")
    assert plane.call(call).output.result.status == Result.GENERIC_STATUS_TERMINATED  # type: ignore[union-attr]


INSIDE = {"claim": "DictUpdate", "commit": "VolumeCommit"}


@pytest.mark.parametrize("fault", ["slow", "5xx", "lost acknowledgement"])
def test_a_fault_that_passes_at_each_step_of_a_container_changes_nothing(
    plane: Plane, modal_app: str, tmp_path: Path, fault: str
) -> None:
    for rpc in INSIDE.values():
        strike(plane, fault, rpc, inside=True)
    compute, key = ModalCompute(str(tmp_path), app=modal_app), uuid.uuid4().hex
    handle = compute.submit(JobSpec("generate_dataset", key, key, {}))
    call = handle.partition("/")[2]
    plane.wait(call)
    ended = compute.poll(handle)
    assert (ended.state, ended.error) == (JobState.FAILED, "sources: Field required.")
    assert call.encode() in plane.dicts.dicts["di-switchyard-claims"][serialize(key)]
    assert plane.call(call).starts == 1


@pytest.mark.parametrize("step", INSIDE)
def test_a_step_that_a_container_is_refused_ends_the_run_with_the_reason(
    plane: Plane, params: dict[str, object], drive: Drive, step: str
) -> None:
    plane.faults.refuse(INSIDE[step], inside=True)
    run = drive(launch("generate_dataset", params))
    attempt = run.attempts.get()
    assert (run.status, attempt.outcome) == (Status.FAILED, "failed")
    assert f"raised an exception: PermissionDeniedError('{INSIDE[step]}: not allowed')" in run.error
    assert not (plane.volume("moe-lora-data") / "runs" / attempt.launch_key / "result.json").exists()


ENDS = {
    "an exception": (Result.GENERIC_STATUS_FAILURE, "raised an exception: ValueError('no')", 1),
    "a time limit": (Result.GENERIC_STATUS_TIMEOUT, "ran into its time limit", 1),
    "no start": (Result.GENERIC_STATUS_INIT_FAILURE, "could not start", 1),
    "a cancel on Modal": (Result.GENERIC_STATUS_TERMINATED, "told to end, and not by this platform", 3),
    "a crash": (Result.GENERIC_STATUS_INTERNAL_FAILURE, "container on Modal was lost", 3),
    "an end without a result": (Result.GENERIC_STATUS_SUCCESS, "ended, but its job left no result", 3),
    "an expired result": (None, "keeps nothing of this call", 3),
}


@pytest.mark.parametrize("name", ENDS)
def test_every_end_ends_the_run_and_is_told_apart(
    plane: Plane, params: dict[str, object], drive: Drive, name: str
) -> None:
    status, words, attempts = ENDS[name]
    plane.faults.hold = True
    before = set(plane.calls.calls)
    run = launch("generate_dataset", params)
    for number in range(1, attempts + 1):
        run = drive(run, until=lambda run, n=number: run.attempts.count() == n and run.status == Status.RUNNING)  # type: ignore[misc]
        call = run.attempts.latest("number").handle.partition("/")[2]
        if status is None:
            plane.expire(call)
        else:
            plane.forge(call, Result(status=status, exception="ValueError('no')"))
    run = drive(run)
    assert run.status == Status.FAILED
    assert words in run.error
    assert not any(other in run.error for _, other, _ in ENDS.values() if other != words)
    assert len(set(plane.calls.calls) - before) == run.attempts.count() == attempts


def test_a_cancel_is_no_error(plane: Plane, params: dict[str, object], drive: Drive) -> None:
    plane.faults.hold = True
    run = drive(launch("generate_dataset", params), until=lambda run: run.status == Status.RUNNING)
    run = drive(cancel(run))
    assert (run.status, run.error, run.attempts.get().outcome) == (Status.CANCELLED, "", "cancelled")


@dataclass(frozen=True)
class Done:
    """A call that has ended, and whose outputs nobody has collected yet."""

    handle: str
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def done(modal_plane: Plane, modal_app: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The one container of this module."""
    modal_plane.faults.clear()
    root = tmp_path_factory.mktemp("done")
    names = ("calendar", "claim-window")
    sources = [{"label": name, "path": str(write_source(name, root / name, 12, seed=3))} for name in names]
    spec = {"sources": sources, "samples_per_class": 10, "split": [0, 0, 1]}
    compute, key = ModalCompute(str(root / "modal"), app=modal_app), uuid.uuid4().hex
    handle = compute.submit(JobSpec("generate_dataset", key, key, spec))
    modal_plane.wait(handle.partition("/")[2])
    ended = compute.poll(handle)
    assert ended.state == JobState.SUCCEEDED, ended.error
    return Done(handle, ended.summary)


@pytest.mark.parametrize("fault", [*FAULTS, "expired output", "not found"])
def test_a_fault_while_the_result_is_collected_loses_nothing(
    plane: Plane, done: Done, params: dict[str, object], drive: Drive, fault: str, settings: Any, tmp_path: Path
) -> None:
    options = {**settings.COMPUTE["modal"]["OPTIONS"], "root": str(tmp_path)}
    settings.COMPUTE["modal"] = {**settings.COMPUTE["modal"], "OPTIONS": options}
    get_compute.cache_clear()
    key, _, call = done.handle.partition("/")
    run = make_run(f"routing-{fault.replace(' ', '-')}", Status.RUNNING, kind="generate_dataset", backend="modal")
    Run.objects.filter(pk=run.pk).update(params=params)
    attempt = Attempt.objects.create(run=run, number=1, launch_key=key, handle=done.handle, backend="modal", slot=0)
    if fault == "expired output":
        plane.expire(call)
    elif fault == "not found":
        Attempt.objects.filter(pk=attempt.pk).update(handle=f"{key}/fc-unknown")
    else:
        strike(plane, fault, "VolumeGetFile2")
    if words := SEEN.get(fault):
        run = drive(run, until=lambda run: bool(run.trouble))
        assert words in run.trouble
        plane.faults.clear()
    spawned = len(plane.calls.calls)
    run = drive(run)
    plane.call(call).expired = False
    assert run.status == Status.SUCCEEDED, run.error
    assert RoutingDataset.objects.get().digest == done.summary["digest"]
    assert len(plane.calls.calls) == spawned
