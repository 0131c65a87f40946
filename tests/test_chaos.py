"""The short form of the campaign of faults: `make chaos` is the long one.

It waives two things: how fast the API answers without a broker, for other tests run on the same processors at the same
time (`test_limits.py` holds a dead and a silent broker to a second); and the trainings with broken checkpoints, which
take minutes (`test_train.py` breaks checkpoints without killing anybody).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]


def test_what_must_hold_holds_under_some_dozens_of_kills(tmp_path: Path) -> None:
    out = tmp_path / "chaos.json"
    options = ["--kills", "30", "--copies", "2", "--no-training", "--out", str(out)]
    words = [sys.executable, "-m", "benchmarks.chaos", *options]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}", **_without_ours()}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert out.exists(), done.stderr[-3000:]
    result = json.loads(out.read_text())
    assert set(result["broken"]) <= {"answer_s_max_without_broker"}, result
    assert result["kills"] >= 30


def _without_ours() -> dict[str, str]:
    """The environment without what the test session set for itself."""

    ours = ("SWITCHYARD_", "PYTHONPATH", "SECRET_KEY", "DATABASE_URL", "REDIS_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
