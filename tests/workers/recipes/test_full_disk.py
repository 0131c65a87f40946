"""A job on a full disk says so, in one sentence, and goes on when there is room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from datasets_app.room import FULL
from tests.full_disk import full_disk
from tests.workers.recipes.recording import RecordingJob
from workers.recipes import train
from workers.recipes.execute import RESERVE, RESERVE_BYTES, FolderJob, execute, leave

SHORT = {"max_steps": 2, "eval_every": 2, "batch_size": 4, "val_samples": 8, "threads": 1, "rank": 4}


def test_a_training_that_cannot_save_a_checkpoint_goes_on_when_there_is_room(
    prepared_folder: Path, tmp_path: Path
) -> None:
    again = RecordingJob(tmp_path, "again")
    spec = {"data": str(prepared_folder), **SHORT}
    with full_disk(2**16):
        failed = execute("train", spec, FolderJob(tmp_path, again.work))
    assert failed == {"state": "failed", "error": FULL}
    assert train.run(train.Spec.model_validate(spec), again)["resumed_from"] is None


def test_a_job_that_cannot_write_its_result_says_so(samples: dict[str, Path], tmp_path: Path) -> None:
    sources = [{"label": kind, "path": str(samples[kind])} for kind in ("calendar", "claim-window")]
    spec = {"sources": sources, "samples_per_class": 20}
    launch = {"kind": "generate_dataset", "spec": spec, "work": str(tmp_path / "work")}
    (tmp_path / "job.json").write_text(json.dumps(launch))
    with full_disk(2**11), Path("/dev/full").open("wb") as log:  # it lies on the same disk
        words = [sys.executable, "-m", "workers.recipes.execute", str(tmp_path)]
        subprocess.run(words, check=False, stdout=log, stderr=log, timeout=60)
    assert json.loads((tmp_path / "result.json").read_bytes()) == {"state": "failed", "error": FULL}


def test_a_job_that_cannot_even_lock_its_work_fails_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "work").touch()
    failed = execute("generate_dataset", {}, FolderJob(tmp_path, tmp_path / "work"))
    assert (failed["state"], failed["error"].partition(":")[0]) == ("failed", "FileExistsError")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own for a job's folder, with room for little more than a launch."""
    words = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("This user may mount no disk.")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("ab", buffering=0) as file:
        while file.write(bytes(512)):
            pass


def test_nobody_takes_the_room_that_was_set_aside_for_a_result(small_disk: Path) -> None:
    (small_disk / RESERVE).write_bytes(os.urandom(RESERVE_BYTES))
    fill(small_disk)
    leave(small_disk, {"state": "failed", "error": FULL})
    assert json.loads((small_disk / "result.json").read_bytes()) == {"state": "failed", "error": FULL}
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "result.json"]


def test_a_result_that_does_not_fit_fails_the_job_with_the_sentence(small_disk: Path) -> None:
    (small_disk / RESERVE).write_bytes(os.urandom(RESERVE_BYTES))
    fill(small_disk)
    leave(small_disk, {"state": "succeeded", "summary": {"words": "x" * 2 * RESERVE_BYTES}})
    assert json.loads((small_disk / "result.json").read_bytes()) == {"state": "failed", "error": FULL}
