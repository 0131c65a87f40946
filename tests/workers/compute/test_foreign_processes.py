"""Jobs of another machine or container on the same data folder: no process id of theirs is used here, and they end."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.compute.local import LocalCompute
from workers.compute.types import ComputeUnavailable, JobSpec, JobState
from workers.recipes.whereabouts import own_pid, whereabouts

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
POPEN = subprocess.Popen


@pytest.fixture
def local(tmp_path: Path) -> LocalCompute:
    return LocalCompute(str(tmp_path / "jobs"))


@pytest.fixture
def waiting(local: LocalCompute) -> Iterator[JobSpec]:
    """A job that will wait for another of the same work, for ever."""
    key = uuid.uuid4().hex
    lock = local.root.parent / "work" / "w" / ".lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield JobSpec("generate_dataset", key, "w", {"sources": []})


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any job."""
    with POPEN(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def claimed(local: LocalCompute, handle: str, seconds: float = 60) -> dict[str, Any]:
    """What its job's claim says, once it has claimed."""
    deadline = time.monotonic() + seconds
    claim = local.root / handle / "claim"
    while not (claim.exists() and claim.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return dict(json.loads(claim.read_bytes()))


def wait_for(local: LocalCompute, handle: str, state: JobState, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while (found := local.poll(handle).state) != state:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def left_by_others(local: LocalCompute, pid: object, **changes: str) -> tuple[str, Any]:
    """A launch whose claim names the process, and its lock, which is held."""
    folder = local.root / uuid.uuid4().hex
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    (folder / "claim").write_text(json.dumps({"pid": pid, **whereabouts(), **changes}))
    lock = (folder / "claim").open("r+")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder.name, lock


@pytest.mark.parametrize(
    "changes", [{"host": "elsewhere"}, {"boot": "another"}, {"pids": "pid:[1]"}], ids=["host", "boot", "namespace"]
)
def test_a_process_id_of_elsewhere_is_never_signalled(
    local: LocalCompute, victim: subprocess.Popen[bytes], changes: dict[str, str]
) -> None:
    handle, lock = left_by_others(local, victim.pid, **changes)
    local.cancel(handle)
    os.utime(local.root / handle / "cancel", (0, 0))
    host = {**whereabouts(), **changes}["host"]
    for at_once in (False, True):
        with pytest.raises(ComputeUnavailable, match=f"goes on, on '{host}'"):
            local.cancel(handle, at_once=at_once)
    assert victim.poll() is None
    assert local.poll(handle).state == JobState.RUNNING
    lock.close()
    local.cancel(handle, at_once=True)
    assert local.poll(handle).state == JobState.LOST


def test_a_process_id_of_here_is_signalled(local: LocalCompute, victim: subprocess.Popen[bytes]) -> None:
    handle, lock = left_by_others(local, victim.pid)
    local.cancel(handle)
    assert victim.wait(10) == -signal.SIGTERM
    lock.close()


@pytest.mark.parametrize("pid", [None, 0, 1, -1, "7", 2.5, [3]])
def test_a_claim_without_a_process_id_names_nobody(pid: object) -> None:
    assert own_pid({"pid": pid, **whereabouts()}) is None


def test_a_claim_of_an_earlier_version_names_nobody() -> None:
    assert own_pid({"pid": os.getpid(), "at": 0.0}) is None


def test_a_job_says_where_it_runs(local: LocalCompute, waiting: JobSpec) -> None:
    handle = local.submit(waiting)
    claim = claimed(local, handle)
    local.cancel(handle, at_once=True)
    assert {name: claim[name] for name in whereabouts()} == whereabouts()
    assert all(whereabouts().values()) or not Path("/proc").is_dir()
    wait_for(local, handle, JobState.LOST)


def test_a_job_ends_by_the_mark_alone(local: LocalCompute, waiting: JobSpec) -> None:
    handle = local.submit(waiting)
    claimed(local, handle)
    (local.root / handle / "cancel").touch()
    wait_for(local, handle, JobState.CANCELLED)


def test_a_job_deaf_to_the_mark_kills_itself_with_all_that_it_has_started(tmp_path: Path) -> None:
    script = (
        "import signal, subprocess, sys, threading, time\n"
        "from pathlib import Path\n"
        "from workers.recipes import execute\n"
        "execute.KILL_SECONDS = 0.2\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "threading.Thread(target=execute.watch, args=(Path(sys.argv[1]),), daemon=True).start()\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path)]
    with POPEN(words, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        (tmp_path / "cancel").touch()
        assert process.wait(30) == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:  # until whoever took it over has waited
        if "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            break
        time.sleep(0.05)
    else:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs the right to make a namespace of process ids",
)
def test_a_job_in_another_container_ends_and_nothing_else_is_signalled(
    local: LocalCompute, waiting: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contained(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return POPEN([*NAMESPACE, *words], **options)

    sent: list[tuple[int, int]] = []
    with monkeypatch.context() as patch:
        patch.setattr("workers.compute.local.subprocess.Popen", contained)
        handle = local.submit(waiting)
    claim = claimed(local, handle)
    assert claim["pids"] != whereabouts()["pids"]
    monkeypatch.setattr(os, "killpg", lambda *words: sent.append(words))
    local.cancel(handle)
    wait_for(local, handle, JobState.CANCELLED)
    local.cancel(handle, at_once=True)
    assert sent == []
