"""Checkpoints that a killed job leaves behind: which of them are whole."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from workers.recipes.manifest import ManifestError, verify_manifest, write_manifest

_NAME = re.compile(r"checkpoint-(\d+)")


def seal(checkpoint: Path) -> None:
    """Declare a checkpoint whole: the hashes of its files go to a manifest beside it, as the last step."""
    place = _seal_of(checkpoint)
    place.mkdir(parents=True, exist_ok=True)
    write_manifest(checkpoint, place)
    for old in place.parent.iterdir():
        if not (checkpoint.parent / old.name).is_dir():
            shutil.rmtree(old)


def newest_whole(work: Path) -> Path | None:
    """The newest checkpoint in `work` whose files are as they were sealed; broken newer ones are removed."""
    found = [path for path in work.iterdir() if _NAME.fullmatch(path.name)] if work.is_dir() else []
    for checkpoint in sorted(found, key=_step, reverse=True):
        try:
            verify_manifest(checkpoint, _seal_of(checkpoint))
            return checkpoint
        except ManifestError:
            shutil.rmtree(checkpoint)
    return None


def _seal_of(checkpoint: Path) -> Path:
    return checkpoint.parent / "sealed" / checkpoint.name


def _step(checkpoint: Path) -> int:
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1
