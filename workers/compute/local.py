"""Jobs on this machine, each a detached process that survives the worker that started it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets_app.locks import held
from datasets_app.text import plain
from workers.compute.logs import tail
from workers.compute.types import ComputeUnavailable, JobSpec, JobState, JobStatus, Progress
from workers.recipes.execute import CANCEL, KILL_SECONDS, RESERVE, RESERVE_BYTES
from workers.recipes.files import write_atomically
from workers.recipes.manifest import verify_manifest
from workers.recipes.whereabouts import own_pid

START_SECONDS = 60.0  # to the claim; a process that has not claimed by then may not any more


class LocalCompute:
    """Runs `workers.recipes.execute` in a session of its own; the handle is the launch key. A job
    computes with `threads` threads unless `OMP_NUM_THREADS` says otherwise.

    The job holds a lock on its claim file while it lives, so that a poll needs no process id and no
    supervisor: a free lock without a result means that the job was killed. A cancel is a mark that the job watches for;
    it is signalled, too, where its process id means it.
    """

    def __init__(self, root: str, threads: int = 1) -> None:
        self.root = Path(root)
        self._threads = os.environ.get("OMP_NUM_THREADS", str(threads))

    def submit(self, job: JobSpec) -> str:
        folder = self.root / job.launch_key
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "claim").exists():
            return job.launch_key
        launch = {**job.as_dict(), "work": str(self.root.parent / "work" / job.work_key)}
        (folder / RESERVE).write_bytes(os.urandom(RESERVE_BYTES))  # zeros take no room on some file systems
        write_atomically(folder / "job.json", json.dumps(launch))
        with (folder / "log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "workers.recipes.execute", str(folder)],
                cwd=Path(__file__).resolve().parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": self._threads},
            )
        return job.launch_key

    def poll(self, handle: str) -> JobStatus:
        folder = self.root / handle
        claimed = _has_claimed(folder)  # before the look at the lock: only then a free lock tells that the job ended
        alive = self._is_alive(folder)
        progress = _read(folder / "status.json")
        if alive:
            return JobStatus(JobState.RUNNING, progress)
        result = _read(folder / "result.json")  # after the lock was seen free: nobody writes it any more
        if result:
            return replace(JobStatus.left(result, progress), seconds=_seconds(folder))
        if claimed:
            words = "The job was killed before it ended."
            return JobStatus(JobState.LOST, progress, error=words, seconds=_seconds(folder))
        if _has_claimed(folder):
            return JobStatus(JobState.RUNNING, progress)  # at this very moment; the next poll knows more
        if not (folder / "job.json").exists():
            return JobStatus(JobState.LOST, error="The job's folder is gone.")
        if time.time() - (folder / "job.json").stat().st_mtime <= START_SECONDS:
            return JobStatus(JobState.PENDING)
        _forestall(folder)
        if _has_claimed(folder):
            return JobStatus(JobState.RUNNING, progress)
        return JobStatus(JobState.LOST, error=f"The job did not start within {START_SECONDS:.0f} s.")

    def cancel(self, handle: str, *, at_once: bool = False) -> None:
        folder = self.root / handle
        folder.mkdir(parents=True, exist_ok=True)  # it may be submitted yet, by a process that stood still
        since = _forestall(folder)
        if not self._is_alive(folder):
            return
        hard, claim = at_once or time.time() - since > KILL_SECONDS, _read(folder / "claim")
        if pid := own_pid(claim):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL if hard else signal.SIGTERM)
        elif hard:
            raise ComputeUnavailable(f"The job is told to end, but goes on, on {plain(str(claim.get('host')))[:64]!r}.")

    def logs(self, handle: str, lines: int = 200) -> str:
        return tail(self.root / handle / "log", lines)

    def outputs(self, handle: str, progress: Progress | None = None) -> Path:
        folder = self.root / handle
        verify_manifest(folder / "out", folder)
        return folder / "out"

    def missing(self) -> str:
        return ""

    def problems(self) -> list[str]:
        return []

    @staticmethod
    def _is_alive(folder: Path) -> bool:
        """Whether some process holds the claim's lock."""
        try:
            with held(folder / "claim"):
                return False
        except BlockingIOError:
            return True


def _has_claimed(folder: Path) -> bool:
    """Whether some process took the launch, and has said which."""
    try:
        return (folder / "claim").stat().st_size > 0
    except FileNotFoundError:
        return False


def _seconds(folder: Path) -> float:
    """From the claim of a job that is over to the last that it wrote."""
    written = [
        path.stat().st_mtime for name in ("claim", "status.json", "result.json") if (path := folder / name).exists()
    ]
    return max(written) - min(written)


def _forestall(folder: Path) -> float:
    """Let no job begin from now on: one that has not claimed yet looks for this mark when it has, and leaves. Since
    when it has been so."""
    mark = folder / CANCEL
    if not mark.exists():
        mark.touch()
    return mark.stat().st_mtime


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
