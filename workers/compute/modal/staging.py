"""The folders that a job reads, brought to a volume once for each content."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapters.backbone.spec import BaseSpec
from datasets_app.formats.digest import folder_digest, folder_files
from workers.compute.modal.account import Volume
from workers.recipes import RECIPES
from workers.remote.places import pointer, reference

BATCH_FILES, BATCH_BYTES = 500, 256 * 2**20
"""What goes up at once: an upload that is cut short goes on after its last whole batch."""


def stage(kind: str, spec: dict[str, Any], volumes: dict[str, Volume]) -> dict[str, Any]:
    """The spec with each local folder that it names uploaded, unless its content is there, and referred to.

    A spec that is wrong is left as it is: the recipe says what is wrong with it.
    """
    model = importlib.import_module(RECIPES[kind]).Spec
    try:
        validated = model.model_validate(spec)
    except ValidationError:
        return spec
    given = validated.model_dump(exclude_unset=True, exclude={"device"})  # of this machine, not of the rented one
    staged: dict[str, Any] = _staged(given, volumes["data"])
    base = BaseSpec(getattr(validated, "base", ""))
    if base.path and base.is_local:
        staged["base"] = reference("base", upload(Path(base.path).expanduser(), volumes["base"]))
    return staged


def _staged(value: Any, volume: Volume) -> Any:
    """Its paths replaced, the rest as JSON has it."""
    if isinstance(value, Path):
        return reference("data", upload(value, volume)) if value.is_dir() else str(value)
    if isinstance(value, dict):
        return {name: _staged(item, volume) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_staged(item, volume) for item in value]
    return value


def upload(folder: Path, volume: Volume) -> str:
    """Where on the volume the folder's content lies, after having brought there what is missing."""
    digest = folder_digest(folder)
    sizes = {name: path.stat().st_size for name, path in folder_files(folder).items()}
    known = (volume.read(pointer(digest)) or b"").decode(errors="replace")
    if known and not _missing(sizes, known, volume):
        return known
    place = f"inputs/{digest.removeprefix('sha256:')}"
    for batch in _batches(_missing(sizes, place, volume), sizes):
        with volume.volume.batch_upload(force=True) as files_up:
            for name in batch:
                files_up.put_file(folder / name, f"{place}/{name}")
    write(volume, pointer(digest), place.encode())
    return place


def write(volume: Volume, path: str, data: bytes) -> None:
    """Put one small file on the volume."""
    with volume.volume.batch_upload(force=True) as batch:
        batch.put_file(io.BytesIO(data), path)


def _missing(sizes: dict[str, int], place: str, volume: Volume) -> list[str]:
    """The files that do not lie there in their size: whoever owns the volume may have removed some."""
    from modal.exception import NotFoundError

    try:
        present = {(entry.path, entry.size) for entry in volume.volume.iterdir(place, recursive=True)}
    except (FileNotFoundError, NotFoundError):
        present = set()
    return [name for name, size in sorted(sizes.items()) if (f"{place}/{name}", size) not in present]


def _batches(files: list[str], sizes: dict[str, int]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for name in files:
        batch.append(name)
        size += sizes[name]
        if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
