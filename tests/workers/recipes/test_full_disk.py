"""A job on a full disk says so, in one sentence, and goes on when there is room."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from datasets_app.room import FULL
from tests.full_disk import full_disk
from tests.workers.recipes.recording import RecordingJob
from workers.recipes import train
from workers.recipes.execute import FolderJob, execute

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
    with full_disk(2**11):
        words = [sys.executable, "-m", "workers.recipes.execute", str(tmp_path)]
        subprocess.run(words, check=False, capture_output=True, timeout=60)
    assert json.loads((tmp_path / "result.json").read_bytes()) == {"state": "failed", "error": FULL}
