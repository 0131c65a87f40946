"""One launch in a container: take it, run its recipe, leave everything on the data volume."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import modal

from datasets_app.errors import InputError
from datasets_app.formats.digest import folder_digest
from workers.recipes.execute import FolderJob, execute
from workers.recipes.files import write_atomically
from workers.remote.calls import holder
from workers.remote.commits import commit
from workers.remote.machines import CPU, MACHINES
from workers.remote.names import MOUNTS
from workers.remote.places import CLAIM, RESULT, claim_key, pointer, resolve, run_folder, work_folder
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

    def hold(self) -> None:
        """The claim holds it: a lock means nothing to other containers, and its open file is in a reload's way."""
        self.work.mkdir(parents=True, exist_ok=True)

    def commit(self) -> None:
        """Make what was written visible and durable."""
        commit(self.volume)
        self._committed = time.monotonic()


def run(launch: str, claims: modal.Dict, volume: modal.Volume) -> None:
    """Run the launch that the JSON text describes, unless another call took it before.

    A call that comes back after a preemption finds its own claim and goes on. One that `follows` another, which has
    ended, does the launch anew. Nothing is returned: result and manifest lie in the launch's folder.
    """
    job = json.loads(launch)
    call = str(modal.current_function_call_id())
    key, follows = job["launch_key"], job.get("follows", "")
    taken = claim_key(key, follows)
    if not claims.put(taken, call, skip_if_exists=True) and holder(claims, taken) != call:
        print("This launch was taken by another call, or cancelled.", flush=True)
        return
    data = MOUNTS / "data"
    folder = data / run_folder(key)
    if follows and _read(folder / CLAIM).get("call") != call:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / RESULT).exists():
        return
    signs = Signs(claims, key, volume, folder)
    claim = _claim(folder, call, job)
    commit(volume)
    restarts = len(claim["starts"]) - 1
    if restarts:
        print(f"The container was replaced; start {restarts + 1} goes on from the last checkpoint.", flush=True)
    vessel = VolumeJob(folder, data / work_folder(job["work_key"]), volume, restarts)
    result = execute(job["kind"], _here(job["kind"], job["spec"]), vessel)
    if result["state"] == "succeeded":
        _point(data, vessel.out)
    facts = {"call": call, "restarts": restarts, "ended": round(time.time(), 3), "held": signs.end()}
    write_atomically(folder / RESULT, json.dumps(result | facts))
    commit(volume)


def _here(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with the folders of this container, and with the GPU that was rented: without it the recipe refuses."""
    rented = {} if MACHINES[kind] == CPU else {"device": "cuda"}
    return rented | dict(resolve(spec, MOUNTS))


def _claim(folder: Path, call: str, job: dict[str, Any]) -> dict[str, Any]:
    """Write down who works here, on what, and each time it began."""
    first = {"call": call, "kind": job["kind"], "spec": job["spec"], "machine": _gpu(), "starts": []}
    claim = _read(folder / CLAIM) or first
    claim["starts"].append(round(time.time(), 3))
    write_atomically(folder / CLAIM, json.dumps(claim))
    return claim


def _read(path: Path) -> dict[str, Any]:
    """What the file holds, {} if it is not there or broken."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return {}


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
