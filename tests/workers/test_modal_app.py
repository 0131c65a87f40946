"""`modal run -m workers.modal_app::…`: the whole chain with nothing but Modal, as docs/modal.md writes it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import modal
import pytest

from adapters.backbone.spec import BaseSpec
from controlplane.env import ROOT
from tests.modal_plane.plane import Plane
from workers.smoke import untrained_adapter

pytestmark = pytest.mark.long

HARDLY = {"max_steps": 1, "eval_every": 1, "rank": 4, "batch_size": 4, "micro_batch_size": 4, "val_samples": 1}
OPTIONS = {
    "generate": {"samples_per_class": 10},
    "train": HARDLY,
    "evaluate": {"max_samples": 4, "latency_samples": 1},
    "stacked_inference": {"max_samples": 4, "max_tokens": 4, "latency_samples": 1},
}
"""What makes the documented commands cheap; all else is as it is written."""


def commands() -> list[str]:
    """The lines of the documented block."""
    section = (ROOT / "docs" / "modal.md").read_text().partition("## With nothing but Modal")[2]
    return section.split("```")[1].strip().splitlines()


def do(line: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of the docs, typed by somebody whose home is there."""
    words = [str(home / word[2:]) if word.startswith("~/") else word for word in shlex.split(line)]
    entry = next((word.partition("::")[2] for word in words if "::" in word), "")
    options = ["--options", json.dumps(OPTIONS[entry])] if entry in OPTIONS else []
    command = [sys.executable, "-m", *words, *options]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture
def account(plane: Plane) -> Iterator[None]:
    """One that has nothing but a data volume of version 1, as volumes were made for years."""
    volumes = plane.volumes
    kept, versions = plane.root / "kept", volumes.versions
    volumes.root.mkdir(exist_ok=True)
    volumes.root.rename(kept)
    volumes.root.mkdir()
    volumes.versions = {}
    modal.Volume.objects.create("moe-lora-data", version=1)
    yield
    shutil.rmtree(volumes.root)
    kept.rename(volumes.root)
    volumes.versions = versions


@pytest.mark.usefixtures("account")
def test_the_documented_commands_route_samples_on_an_account_of_their_own(
    plane: Plane, samples: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("calendar", "claim-window"):
        shutil.copytree(samples[name], tmp_path / "data" / name)
    untrained_adapter(tmp_path / "loras" / "claim-window", BaseSpec())
    printed = {}
    for line in commands():
        done = do(line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        printed[line.partition("::")[2].partition(" ")[0]] = done.stdout
    assert '"digest": "sha256:' in printed["preprocess"]
    assert '"kind": "router"' in printed["evaluate"]
    answers = [json.loads(line) for line in printed["stacked_inference"].splitlines() if line.startswith('{"')]
    assert 1 <= len(answers) <= 4
    assert {answer["label"] for answer in answers} <= {"calendar", "claim-window"}
    assert all("end_to_end" in answer for answer in answers)
    assert plane.volumes.versions == {"moe-lora-data": 1} | dict.fromkeys(
        ("claimhawk-training-data", "moe-lora-checkpoints", "switchyard-base-models"), 2
    )
    training = next(line for line in commands() if "--name router-1" in line and "::train" in line)
    done = do(training.replace("router-1", "router-2"), tmp_path, SWITCHYARD_MODAL_GPUS="H100")
    assert done.returncode == 1
    assert "device: 'cuda' is not there" in done.stdout + done.stderr
