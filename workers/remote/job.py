"""One launch in a container: take it, run its recipe, leave everything on the data volume."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import modal

from datasets_app.errors import InputError
from datasets_app.formats.digest import folder_digest
from workers.recipes.execute import FolderJob, execute
from workers.recipes.files import write_atomically
from workers.remote.names import MOUNTS
from workers.remote.places import CLAIM, RESULT, pointer, resolve, run_folder, work_folder
from workers.remote.signs import Signs

COMMIT_SECONDS = float(os.environ.get("SWITCHYARD_COMMIT_SECONDS", "10"))  # at most so often for progress alone


class VolumeJob(FolderJob):
    """A `Job` whose files lie on a volume: others see them after a commit."""

    def __init__(self, folder: Path, work: Path, volume: modal.Volume, restarts: int) -> None:
        super().__init__(folder, work)
        self.volume = volume
        self.notes = {"restarts": restarts} if restarts else {}
        self._committed = time.monotonic()

    def progress(self, step: str, done: int, total: int, **metrics: float) -> None:
        """Report, and show it to others once in a while."""
        super().progress(step, done, total, **metrics)
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self.commit()

    def checkpointed(self) -> None:
        """A checkpoint is worth a commit at once: it is what a restart goes on from."""
        self.commit()

    def commit(self) -> None:
        """Make what was written visible and durable."""
        self.volume.commit()
        self._committed = time.monotonic()


def run(launch: str, claims: modal.Dict, volume: modal.Volume) -> None:
    """Run the launch that the JSON text describes, unless another call took it before.

    A call that comes back after a preemption finds its own claim and goes on. Nothing is returned: result and
    manifest lie in the launch's folder.
    """
    job = json.loads(launch)
    call = str(modal.current_function_call_id())
    key = job["launch_key"]
    if not claims.put(key, call, skip_if_exists=True) and claims.get(key) != call:
        print("This launch was taken by another call, or cancelled.", flush=True)
        return
    data = MOUNTS / "data"
    folder = data / run_folder(key)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / RESULT).exists():
        return
    signs = Signs(claims, key)
    claim = _claim(folder, call)
    volume.commit()
    restarts = len(claim["starts"]) - 1
    if restarts:
        print(f"The container was replaced; start {restarts + 1} goes on from the last checkpoint.", flush=True)
    vessel = VolumeJob(folder, data / work_folder(job["work_key"]), volume, restarts)
    result = execute(job["kind"], resolve(job["spec"], MOUNTS), vessel)
    if result["state"] == "succeeded":
        _point(data, vessel.out)
    facts = {"call": call, "restarts": restarts, "ended": round(time.time(), 3), "held": signs.end()}
    write_atomically(folder / RESULT, json.dumps(result | facts))
    volume.commit()


def _claim(folder: Path, call: str) -> dict[str, Any]:
    """Write down who works here, and each time it began."""
    try:
        claim = json.loads((folder / CLAIM).read_bytes())
    except (OSError, ValueError):
        claim = {"call": call, "starts": [], "machine": _gpu()}
    claim["starts"].append(round(time.time(), 3))
    write_atomically(folder / CLAIM, json.dumps(claim))
    return dict(claim)


def _gpu() -> str:
    """What the driver calls the machine's GPU; '' where there is none."""
    for facts in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in facts.read_text().splitlines():
            if line.startswith("Model:"):
                return line.removeprefix("Model:").strip()[:64]
    return ""


def _point(data: Path, out: Path) -> None:
    """Let the next job find these outputs by their content, so that nobody uploads them again."""
    try:
        place = data / pointer(folder_digest(out))
    except InputError:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, out.relative_to(data).as_posix())
