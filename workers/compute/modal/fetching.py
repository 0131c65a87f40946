"""Results brought from the volume, by their manifest."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath
from typing import Any

from workers.compute.modal.account import Volume
from workers.compute.types import Progress
from workers.recipes.files import write_atomically
from workers.recipes.manifest import MANIFEST, ManifestError, hash_file, verify_manifest

FETCHED = "fetched"
PARTIAL = ".partial-"
THREADS = 4  # they share the line, and the more there are the fewer files are whole when a try is cut short


def fetch(volume: Volume, remote: str, folder: Path, progress: Progress | None = None) -> Path:
    """Bring `remote/out` to `folder/out`, file by file, going on where an earlier try was cut short.

    ManifestError if the manifest is missing or the files are not what it says.
    """
    out = folder / "out"
    if not (folder / FETCHED).exists():
        text = volume.read(f"{remote}/{MANIFEST}")
        if text is None:
            raise ManifestError("The job left no manifest on the volume.")
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / MANIFEST, text.decode())
        _bring(volume, f"{remote}/out", out, _files(text), progress or (lambda done, total: None))
    verify_manifest(out, folder)
    (folder / FETCHED).touch()
    return out


class _Stopped(Exception):  # noqa: N818 - no error: nobody waits for the file any more
    """The try was cut short."""


def _bring(volume: Volume, remote: str, out: Path, files: dict[str, Any], progress: Progress) -> None:
    """Those that are not here yet, several at once, by way of a folder of this try's own: another may be under way.

    Whoever is interrupted returns at once; what still comes then is thrown away.
    """
    stop = threading.Event()
    scratch = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=out.parent))

    def bring(number: int, name: str, facts: dict[str, Any]) -> int:
        target, partial = out / name, scratch / str(number)
        if not (target.is_file() and hash_file(target) == facts["sha256"]):
            _download(volume, f"{remote}/{name}", partial, facts["size"], stop)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(target)
        return int(facts["size"])

    done, total = 0, sum(facts["size"] for facts in files.values())
    pool = ThreadPoolExecutor(THREADS)
    try:
        tasks = [pool.submit(bring, number, *item) for number, item in enumerate(files.items())]
        for task in as_completed(tasks):
            done += task.result()
            progress(done, total)
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _files(text: bytes) -> dict[str, Any]:
    """The manifest's entries; it comes from a worker, so every name must stay inside the folder."""
    try:
        entries = json.loads(text)
        for name, facts in entries.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not isinstance(facts["size"], int):
                raise ManifestError(f"The manifest names {name!r}, which is no file of the job's.")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ManifestError(f"The job left no readable manifest: {error}.") from error
    return dict(entries)


def _download(volume: Volume, remote: str, target: Path, size: int, stop: threading.Event) -> None:
    written = 0
    try:
        with target.open("wb") as file:
            for block in volume.volume.read_file(remote):
                if stop.is_set():
                    raise _Stopped
                written += len(block)
                if written > size:
                    raise ManifestError(f"Output {PurePosixPath(remote).name} is larger than the manifest says.")
                file.write(block)
    except FileNotFoundError:
        if stop.is_set():  # and the folder is gone
            raise _Stopped from None
        raise ManifestError(f"Output {PurePosixPath(remote).name} is missing on the volume.") from None
