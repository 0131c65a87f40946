"""Where results live for good."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from django.conf import settings

PARTIAL = ".partial-"


def keep(outputs: Path, *place: str) -> Path:
    """Move a job's outputs to `DATA_ROOT/place`, in one rename; where that was done before, nothing happens."""
    target = Path(settings.DATA_ROOT).joinpath(*place)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Renaming would take the outputs from the job's folder, and finalising could not be repeated.
        scratch = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=target.parent))  # another process may do the same now
        scratch.chmod(0o755)
        try:
            shutil.copytree(outputs, scratch, copy_function=_link_or_copy, dirs_exist_ok=True)
            scratch.rename(target)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            if not target.exists():
                raise
    return target


def _link_or_copy(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
