"""Where results live for good."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.conf import settings


def keep(outputs: Path, *place: str) -> Path:
    """Move a job's outputs to `DATA_ROOT/place`, in one rename; where that was done before, nothing happens."""
    target = Path(settings.DATA_ROOT).joinpath(*place)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Renaming would take the outputs from the job's folder, and finalising could not be repeated.
        scratch = target.with_name(f".{target.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(outputs, scratch, copy_function=_link_or_copy)
        scratch.rename(target)
    return target


def _link_or_copy(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
