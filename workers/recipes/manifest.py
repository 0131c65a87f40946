"""The manifest: what a job leaves behind, hashed, written last."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from workers.recipes.files import write_atomically

MANIFEST = "manifest.json"
CHUNK = 1 << 20


class ManifestError(Exception):
    """The outputs are not what the manifest says."""


def hash_file(path: Path) -> str:
    """sha256 of the file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_manifest(out: Path, where: Path) -> None:
    """Hash every file below `out` into `where/manifest.json`."""
    files = {
        path.relative_to(out).as_posix(): {"sha256": hash_file(path), "size": path.stat().st_size}
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    write_atomically(where / MANIFEST, json.dumps(files, indent=1))


def verify_manifest(out: Path, where: Path) -> None:
    """Raise ManifestError unless the files below `out` are those of `where/manifest.json`, byte for byte."""
    try:
        expected = json.loads((where / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(f"The job left no readable manifest: {error}.") from error
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    if found != set(expected):
        odd = sorted(found ^ set(expected))[:5]
        raise ManifestError(f"Outputs differ from the manifest: {', '.join(odd)}.")
    for name, facts in expected.items():
        if hash_file(out / name) != facts["sha256"]:
            raise ManifestError(f"Output {name} has changed since the job wrote it.")
