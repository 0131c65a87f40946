"""Trainings that are killed, and whose checkpoint is broken before they go on: they end with the same weights."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.chaos.installation import KINDS

if TYPE_CHECKING:
    from benchmarks.chaos.campaign import Campaign
    from workers.models import Run

SECONDS = 600.0  # for one run at most
EVERY = 4
CONFIG = {"max_steps": 5 * EVERY, "eval_every": EVERY, "batch_size": 4, "val_samples": 8, "rank": 4, "threads": 1}


def truncate(weights: Path) -> None:
    """The disk lost its end."""
    weights.write_bytes(weights.read_bytes()[:-1000])


def flip(weights: Path) -> None:
    """One bit has changed: the weights are numbers still, and others."""
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)


def spoil(weights: Path) -> None:
    """The weights are no numbers any more, and were so when they were sealed."""
    from workers.recipes.training.checkpoints import seal

    data = bytearray(weights.read_bytes())
    data[-4096:] = b"\xff" * 4096
    weights.write_bytes(data)
    seal(weights.parent)


HARMS: tuple[Callable[[Path], None], ...] = (truncate, spoil, flip)


def break_checkpoints(campaign: Campaign) -> dict[str, Any]:
    """Train undisturbed, then with each harm; how many ended with other weights, or did not end well."""
    params = _prepare(campaign)
    undisturbed = _finished(campaign, _launch("train", "train-0", params))
    wrong = []
    for harm in HARMS:
        run = _launch("train", f"train-{harm.__name__}", params)
        _kill_and_break(campaign, run, harm)
        ended = _finished(campaign, run)
        same = ended.adapter_version_id == undisturbed.adapter_version_id is not None
        if not same or ended.attempts.count() != 2:
            wrong.append(f"{harm.__name__}: {ended.status} {ended.error}")
    return {"trainings": len(HARMS), "harms": [harm.__name__ for harm in HARMS], "wrong": wrong}


def _prepare(campaign: Campaign) -> dict[str, Any]:
    from datasets_app.samples.source import write_source
    from datasets_app.services import register_source

    names = {kind: f"{kind}-many" for kind in KINDS}
    for kind, name in names.items():
        register_source(name, write_source(kind, campaign.data / "sources" / name, 60, seed=2))
    drawn = {"adapters": KINDS, "sources": names, "samples_per_class": 20, "split": (0.6, 0.2, 0.2)}
    _finished(campaign, _launch("generate_dataset", "many", drawn))
    _finished(campaign, _launch("preprocess", "many-prepared", {"dataset": "many"}))
    return {"dataset": "many", "adapter": "many", "config": CONFIG}


def _launch(kind: str, name: str, params: dict[str, Any]) -> Run:
    from workers.services import launch

    return launch(kind, params, name=name)


def _finished(campaign: Campaign, run: Run) -> Run:
    def is_over() -> bool:
        run.refresh_from_db()
        return run.is_over

    campaign.wait_for(is_over, SECONDS)
    return run


def _kill_and_break(campaign: Campaign, run: Run, harm: Callable[[Path], None]) -> None:
    """SIGKILL the job once it has two checkpoints, and harm the newer one."""
    from workers.services.starting import work_key

    work = campaign.data / "work" / work_key(run)

    def sealed() -> list[Path]:
        found = work.glob("sealed/checkpoint-*/manifest.json")
        return sorted((seal.parent for seal in found), key=lambda seal: int(seal.name.split("-")[1]))

    deadline = time.monotonic() + SECONDS
    while len(sealed()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
        if time.monotonic() % 1 < 0.02:
            campaign.tend()
    attempt = run.attempts.get()
    pid = json.loads((campaign.data / "jobs" / attempt.launch_key / "claim").read_bytes())["pid"]
    campaign.processes.signal(pid, signal.SIGKILL)
    campaign.books.killed.add(attempt.launch_key)
    harm(work / sealed()[-1].name / "adapter_model.safetensors")
