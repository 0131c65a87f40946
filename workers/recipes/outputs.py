"""Result folders that are whole or absent."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets_app.errors import InputError


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty sibling folder to write to, and rename it to `target` at the end; on any error remove it.

    InputError if `target` exists and is not an empty folder.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"--out: {str(target)!r} exists already; name a new folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    sibling = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        sibling.chmod(0o755)
        yield sibling
        sibling.replace(target)
    except BaseException:
        shutil.rmtree(sibling, ignore_errors=True)
        raise
