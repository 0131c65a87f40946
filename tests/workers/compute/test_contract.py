"""What every compute backend must do; the same tests for each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from workers.compute.local import LocalCompute
from workers.compute.modal import ModalCompute
from workers.compute.types import Compute, JobSpec, JobState, JobStatus
from workers.recipes.manifest import ManifestError

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(params=["local", "modal"])
def compute(request: pytest.FixtureRequest, tmp_path: Path) -> Compute:
    if request.param == "local":
        return LocalCompute(str(tmp_path / "jobs"))
    request.getfixturevalue("plane")
    return ModalCompute(str(tmp_path / "modal"), app=request.getfixturevalue("modal_app"))


@pytest.fixture
def job(samples: dict[str, Path]) -> JobSpec:
    sources = [{"label": kind, "path": str(samples[kind])} for kind in ("calendar", "claim-window")]
    key = uuid.uuid4().hex
    return JobSpec("generate_dataset", key, f"work-{key}", {"sources": sources, "samples_per_class": 20})


def wait_for(compute: Compute, handle: str, *states: JobState, seconds: float = 300) -> JobStatus:
    deadline = time.monotonic() + seconds
    while (status := compute.poll(handle)).state not in states:
        assert time.monotonic() < deadline, status
        time.sleep(0.02 if isinstance(compute, LocalCompute) else 0.2)
    return status


ENDS = (JobState.SUCCEEDED, JobState.FAILED, JobState.LOST, JobState.CANCELLED)


def test_a_job_succeeds_with_outputs_and_a_summary(compute: Compute, job: JobSpec) -> None:
    handle = compute.submit(job)
    status = wait_for(compute, handle, *ENDS)
    assert status.state == JobState.SUCCEEDED, status.error
    assert status.summary["digest"].startswith("sha256:")
    assert (compute.outputs(handle) / "metadata.json").is_file()
    assert status.progress["done"] == status.progress["total"] > 0
    assert status.seconds > 0


def test_submitting_twice_does_the_work_once(compute: Compute, job: JobSpec) -> None:
    handles = {compute.submit(job) for _ in range(3)}
    assert len(handles) == 1
    handle = handles.pop()
    assert wait_for(compute, handle, *ENDS).state == JobState.SUCCEEDED
    time.sleep(1)  # the losers have left by now
    assert compute.poll(handle).state == JobState.SUCCEEDED
    assert compute.logs(handle).count("taken by another") <= 2
    compute.outputs(handle)


def test_wrong_input_fails_with_the_sentence_and_no_traceback(compute: Compute, job: JobSpec) -> None:
    job.spec["samples_per_class"] = -1
    status = wait_for(compute, compute.submit(job), *ENDS)
    assert status.state == JobState.FAILED
    assert status.error.startswith("samples_per_class")


def test_an_unknown_job_is_lost(compute: Compute) -> None:
    assert compute.poll("nothing").state == JobState.LOST


def test_a_job_cancelled_before_it_began_does_nothing(compute: Compute, job: JobSpec) -> None:
    handle = compute.submit(job)
    compute.cancel(handle)
    assert wait_for(compute, handle, *ENDS).state == JobState.CANCELLED


def test_changed_outputs_are_refused(compute: Compute, job: JobSpec) -> None:
    handle = compute.submit(job)
    wait_for(compute, handle, *ENDS)
    (compute.outputs(handle) / "val.jsonl").write_text("")
    with pytest.raises(ManifestError, match=r"val\.jsonl"):
        compute.outputs(handle)


class TestLocal:
    """What only processes on this machine can show."""

    @pytest.fixture
    def local(self, tmp_path: Path) -> LocalCompute:
        return LocalCompute(str(tmp_path / "jobs"))

    def stopped(self, local: LocalCompute, job: JobSpec) -> int:
        """Start the job and stop its process as soon as it has claimed; its process id."""
        handle = local.submit(job)
        wait_for(local, handle, JobState.RUNNING)
        import json

        pid = 0
        while not pid:
            try:
                pid = json.loads((local.root / handle / "claim").read_bytes())["pid"]
            except ValueError:
                continue
        os.kill(pid, signal.SIGSTOP)
        return int(pid)

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the job's environment in /proc")
    @pytest.mark.parametrize(("said", "expected"), [(None, "3"), ("2", "2")])
    def test_a_job_computes_with_its_share_of_the_cores_unless_told_otherwise(
        self, job: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, expected: str
    ) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if said:
            monkeypatch.setenv("OMP_NUM_THREADS", said)
        pid = self.stopped(LocalCompute(str(tmp_path / "jobs"), threads=3), job)
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        os.kill(pid, signal.SIGKILL)
        assert f"OMP_NUM_THREADS={expected}".encode() in variables

    def test_a_killed_job_is_lost(self, local: LocalCompute, job: JobSpec) -> None:
        os.kill(self.stopped(local, job), signal.SIGKILL)
        assert wait_for(local, job.launch_key, *ENDS).state == JobState.LOST

    def test_a_job_that_claims_while_it_is_polled_is_not_lost(
        self, local: LocalCompute, job: JobSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handle = local.submit(job)
        claim, look = local.root / handle / "claim", LocalCompute._is_alive

        def slow_look(folder: Path) -> bool:
            alive = look(folder)
            while not (claim.exists() and claim.stat().st_size):
                time.sleep(0.01)
            return alive

        monkeypatch.setattr(LocalCompute, "_is_alive", staticmethod(slow_look))
        assert local.poll(handle).state == JobState.RUNNING
        monkeypatch.undo()
        assert wait_for(local, handle, *ENDS).state == JobState.SUCCEEDED

    @pytest.fixture
    def late(self, local: LocalCompute, job: JobSpec, monkeypatch: pytest.MonkeyPatch) -> JobSpec:
        """A job whose process has not come up in time, and does so later."""
        monkeypatch.setattr("workers.compute.local.subprocess.Popen", lambda *words, **options: None)
        local.submit(job)
        os.utime(local.root / job.launch_key / "job.json", (0, 0))
        monkeypatch.undo()
        return job

    def come_up(self, local: LocalCompute, job: JobSpec) -> Path:
        """Run its process; its folder."""
        folder = local.root / job.launch_key
        subprocess.run([sys.executable, "-m", "workers.recipes.execute", str(folder)], cwd=ROOT, check=False)
        return folder

    def test_a_job_that_comes_up_after_it_was_found_lost_does_nothing(self, local: LocalCompute, late: JobSpec) -> None:
        assert local.poll(late.launch_key).state == JobState.LOST
        assert not (self.come_up(local, late) / "out").exists()
        assert local.poll(late.launch_key).state == JobState.CANCELLED

    def test_a_job_that_comes_up_while_it_is_found_late_is_not_lost(
        self, local: LocalCompute, late: JobSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch = Path.touch

        def slow(path: Path) -> None:
            self.come_up(local, late)
            touch(path)

        monkeypatch.setattr(Path, "touch", slow)
        assert local.poll(late.launch_key).state == JobState.RUNNING
        monkeypatch.undo()
        assert local.poll(late.launch_key).state == JobState.SUCCEEDED

    def test_a_job_submitted_after_its_cancel_does_nothing(self, local: LocalCompute, job: JobSpec) -> None:
        local.cancel(job.launch_key, at_once=True)
        assert wait_for(local, local.submit(job), *ENDS).state == JobState.CANCELLED
        assert not (local.root / job.launch_key / "out").exists()

    def test_a_job_deaf_to_sigterm_is_killed_in_the_end(self, local: LocalCompute, job: JobSpec) -> None:
        self.stopped(local, job)
        local.cancel(job.launch_key)
        os.utime(local.root / job.launch_key / "cancel", (0, 0))
        assert local.poll(job.launch_key).state == JobState.RUNNING
        local.cancel(job.launch_key)
        assert wait_for(local, job.launch_key, *ENDS).state == JobState.LOST

    def test_a_job_outlives_the_process_that_started_it(self, local: LocalCompute, job: JobSpec) -> None:
        script = (
            "import sys, json, os, signal\n"
            "from workers.compute.local import LocalCompute\n"
            "from workers.compute.types import JobSpec\n"
            "LocalCompute(sys.argv[1]).submit(JobSpec(**json.loads(sys.argv[2])))\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        import json

        words = [sys.executable, "-c", script, str(local.root), json.dumps(job.as_dict())]
        assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
        assert wait_for(local, job.launch_key, *ENDS).state == JobState.SUCCEEDED
