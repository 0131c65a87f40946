"""`modal run -m workers.modal_app::…`: jobs with nothing but Modal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.modal_plane.plane import Plane


def run(entry: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a local entry point with the modal CLI."""
    command = [sys.executable, "-m", "modal", "run", "-q", "-m", f"workers.modal_app::{entry}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


def test_jobs_find_each_others_results_by_name(plane: Plane, modal_app: str, samples: dict[str, Path]) -> None:
    for name in ("calendar", "claim-window"):
        shutil.copytree(samples[name], plane.volume("claimhawk-training-data") / name, dirs_exist_ok=True)
    done = run(
        "generate", "--name", "direct", "--sources", "calendar,claim-window", "--options", '{"samples_per_class": 20}'
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout[done.stdout.index("{") :])["metadata"]["samples_per_class"] == 20
    done = run("preprocess", "--name", "direct-prepared", "--dataset", "direct")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"digest": "sha256:' in done.stdout
    done = run("train", "--name", "direct-trained", "--dataset", "nothing")
    assert done.returncode == 1
    assert "neither a finished run nor a folder" in done.stdout + done.stderr
