"""Results brought from the volume, by their manifest."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath
from typing import Any

from workers.compute.modal.account import Volume
from workers.compute.types import Progress
from workers.recipes.files import write_atomically
from workers.recipes.manifest import MANIFEST, ManifestError, hash_file, verify_manifest

FETCHED = "fetched"
THREADS = 16


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
    verify_manifest(out, folder)
    return out


def _bring(volume: Volume, remote: str, out: Path, files: dict[str, Any], progress: Progress) -> None:
    """Those that are not here yet, several at once."""

    def bring(name: str, facts: dict[str, Any]) -> int:
        target = out / name
        if not (target.is_file() and hash_file(target) == facts["sha256"]):
            _download(volume, f"{remote}/{name}", target, facts["size"])
        return int(facts["size"])

    done, total = 0, sum(facts["size"] for facts in files.values())
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for task in as_completed([pool.submit(bring, *item) for item in files.items()]):
                done += task.result()
                progress(done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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


def _download(volume: Volume, remote: str, target: Path, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    written = 0
    try:
        with partial.open("wb") as file:
            for block in volume.volume.read_file(remote):
                written += len(block)
                if written > size:
                    raise ManifestError(f"Output {target.name} is larger than the manifest says.")
                file.write(block)
    except FileNotFoundError:
        raise ManifestError(f"Output {target.name} is missing on the volume.") from None
    partial.replace(target)
