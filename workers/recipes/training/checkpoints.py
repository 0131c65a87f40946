"""Checkpoints that a killed job leaves behind: which of them can be gone on from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from adapters.weights import WEIGHTS_FILE, read_header, scan
from datasets_app.errors import InputError
from workers.recipes.manifest import ManifestError, verify_manifest, write_manifest

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state.json"


def seal(checkpoint: Path) -> None:
    """Declare a checkpoint whole: the hashes of its files go to a manifest beside it, as the last step."""
    place = _seal_of(checkpoint)
    place.mkdir(parents=True, exist_ok=True)
    write_manifest(checkpoint, place)
    for old in place.parent.iterdir():
        if not (checkpoint.parent / old.name).is_dir():
            shutil.rmtree(old)


def is_whole(checkpoint: Path) -> bool:
    """Whether its files are as they were sealed, and its weights are numbers."""
    try:
        verify_manifest(checkpoint, _seal_of(checkpoint))
        return _is_finite(checkpoint / WEIGHTS_FILE)
    except (ManifestError, InputError):
        return False


def newest_whole(work: Path) -> Path | None:
    """The newest checkpoint in `work` that is whole, and whose best one so far is, too; all that are not are removed.

    The best one counts because training ends by taking its weights.
    """
    found = [path for path in work.iterdir() if _NAME.fullmatch(path.name)] if work.is_dir() else []
    for checkpoint in found:
        if not is_whole(checkpoint):
            shutil.rmtree(checkpoint)
    for checkpoint in sorted((path for path in found if path.is_dir()), key=_step, reverse=True):
        best = _best_of(checkpoint)
        if best is None or (work / best).is_dir():
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def _is_finite(weights: Path) -> bool:
    if not weights.is_file():
        return True
    with weights.open("rb") as file:
        not_finite, _ = scan(file, read_header(file, weights.stat().st_size))
    return not not_finite


def _best_of(checkpoint: Path) -> str | None:
    """Name of the best checkpoint when this one was written."""
    try:
        best = json.loads((checkpoint / _STATE).read_bytes()).get("best_model_checkpoint")
    except FileNotFoundError:
        return None
    return Path(best).name if best else None


def _seal_of(checkpoint: Path) -> Path:
    return checkpoint.parent / "sealed" / checkpoint.name


def _step(checkpoint: Path) -> int:
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1
