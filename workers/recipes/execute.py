"""Runs one launch of a recipe in a folder of its own, and leaves there everything that others need to know.

`python -m workers.recipes.execute FOLDER`, where FOLDER holds `job.json`. Files it writes:

- `claim`: locked while the process lives; what it holds says that the launch was taken, for ever, and by which process
- `status.json`: the latest progress, replaced atomically
- `metrics.jsonl`: one JSON line for each progress report that carries metrics
- `out/`, `manifest.json`: the result and the hashes of its files
- `result.json`: written last; how it ended

A file `cancel` there tells the job to end. The job watches for it: a signal reaches it from its own machine alone.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from datasets_app.errors import InputError
from datasets_app.room import FULL, explain, has_room, is_disk_full
from datasets_app.strict_json import check_json
from workers.recipes import RECIPES
from workers.recipes.files import write_atomically
from workers.recipes.manifest import write_manifest
from workers.recipes.progress import Meter
from workers.recipes.whereabouts import whereabouts

CANCEL = "cancel"
WATCH_SECONDS = 0.5
KILL_SECONDS = 10.0  # from SIGTERM to SIGKILL
REPORT_INTERVAL = 0.5  # seconds between two writes of status.json
RESERVE = ".reserve"  # made with the launch: room for claim and result, so that on a full disk a job can still say so
RESERVE_BYTES = 2**16
NO_ROOM = {"state": "failed", "error": FULL}


class Cancelled(BaseException):
    """SIGTERM arrived."""


class FolderJob:
    """A `Job` that reports into files."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.work = work
        self.meter = Meter()
        self.notes: dict[str, Any] = {}
        self._written = 0.0

    def progress(self, step: str, done: int, total: int, **metrics: float) -> None:
        """Replace `status.json`, at most every half second, and append any metrics."""
        now = time.time()
        report = self.meter.report(step, done, total, metrics, now) | self.notes
        if metrics:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(report) + "\n")
        if now - self._written >= REPORT_INTERVAL or done >= total:
            self._written = now
            write_atomically(self.folder / "status.json", json.dumps(report))

    def checkpointed(self) -> None:
        """Nothing to do: the disk has it."""

    def hold(self) -> None:
        """Keep the work folder to this process: two launches of the same work never write to it at once."""
        self.work.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.work / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def claim(folder: Path) -> int | None:
    """Take the launch, once and for ever: the file descriptor of the lock, or None if it was taken before."""
    try:
        descriptor = os.open(folder / "claim", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits at most for a poll's glance at the lock
    os.write(descriptor, json.dumps({"pid": os.getpid(), "at": time.time(), **whereabouts()}).encode())
    os.fsync(descriptor)
    return descriptor


def describe(error: ValidationError) -> str:
    """A validation error as one sentence that names the field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "spec"
    return f"{field}: {first['msg']}."


def run_recipe(kind: str, spec: dict[str, Any], job: FolderJob) -> dict[str, Any]:
    """Validate the spec and run the recipe; InputError names what is wrong with either."""
    module = importlib.import_module(RECIPES[kind])
    try:
        validated = module.Spec.model_validate(spec)
    except ValidationError as error:
        raise InputError(describe(error)) from error
    job.meter = Meter(module.STEPS)
    summary: dict[str, Any] = module.run(validated, job)
    return summary


def execute(kind: str, spec: dict[str, Any], job: FolderJob) -> dict[str, Any]:
    """Run the recipe, write the manifest of its outputs, and return what goes into `result.json`."""
    try:
        job.hold()
        shutil.rmtree(job.out, ignore_errors=True)
        job.out.mkdir()
        summary = run_recipe(kind, spec, job)
        check_json(summary)
        write_manifest(job.out, job.folder)
    except InputError as error:
        return {"state": "failed", "error": str(error)}
    except Cancelled:
        return {"state": "cancelled", "error": ""}
    except Exception as error:
        why = _why(error, job)
        with suppress(OSError):  # the log may lie on the disk that is full
            traceback.print_exc()
        return {"state": "failed", "error": why}
    return {"state": "succeeded", "summary": summary}


def _why(error: Exception, job: FolderJob) -> str:
    """The reason in words; what was half written goes, so that a full disk does not stay full of it."""
    room = has_room(job.out) and has_room(job.work)
    shutil.rmtree(job.out, ignore_errors=True)
    return explain(error) if room else FULL


def _launch(folder: Path) -> dict[str, Any]:
    launch = json.loads((folder / "job.json").read_bytes())
    return execute(launch["kind"], launch["spec"], FolderJob(folder, Path(launch["work"])))


def leave(folder: Path, result: dict[str, Any]) -> None:
    """Write `result.json` in the very room that was set aside for it, so that nobody else can take that before; one
    that needs more, where there is no more, becomes a failure."""
    room = folder / ".result"
    with suppress(FileNotFoundError):
        (folder / RESERVE).replace(room)  # out of the way of a second process of this launch
    room.touch()
    try:
        with room.open("r+b") as file:
            file.write(json.dumps(result).encode())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if not is_disk_full(error) or result == NO_ROOM:
            raise
        shutil.rmtree(folder / "out", ignore_errors=True)
        leave(folder, NO_ROOM)
    else:
        room.replace(folder / "result.json")


def _make_room(folder: Path) -> None:
    """Free half of the reserve, for the claim."""
    with suppress(FileNotFoundError):
        os.truncate(folder / RESERVE, RESERVE_BYTES // 2)


def _cancel(signum: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: the mark and who made it both send one
    raise Cancelled


def watch(folder: Path) -> None:
    """End this process once the mark is there: first as SIGTERM does, then for good, with all that it has started."""
    while not (folder / CANCEL).exists():
        time.sleep(WATCH_SECONDS)
    main = threading.main_thread()
    signal.pthread_kill(main.ident or 0, signal.SIGTERM)  # to that thread: it may wait for a lock
    main.join(KILL_SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Claim, execute, leave the result."""
    folder = Path(sys.argv[1]).resolve()
    _make_room(folder)
    if claim(folder) is None:
        print("This launch was taken by another process.", file=sys.stderr)
        return 3
    signal.signal(signal.SIGTERM, _cancel)
    try:
        if (folder / CANCEL).exists():
            raise Cancelled
        threading.Thread(target=watch, args=(folder,), name="watch", daemon=True).start()
        result = _launch(folder)
    except Cancelled:
        result = {"state": "cancelled", "error": ""}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    leave(folder, result)
    return 0 if result["state"] == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
