"""The folders that a job reads, brought to a volume once for each content."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapters.backbone.spec import BaseSpec
from datasets_app.formats.digest import folder_digest
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
    staged: dict[str, Any] = _staged(validated.model_dump(exclude_unset=True), volumes["data"])
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
    """Where on the volume the folder's content lies, after having brought it there if need be."""
    digest = folder_digest(folder)
    if known := volume.read(pointer(digest)):
        return known.decode()
    place = f"inputs/{digest.removeprefix('sha256:')}"
    present = {entry.path for entry in _listed(volume, place) if entry.type.name == "FILE"}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    missing = [path for path in files if f"{place}/{path.relative_to(folder).as_posix()}" not in present]
    for batch in _batches(missing):
        with volume.volume.batch_upload(force=True) as files_up:
            for path in batch:
                files_up.put_file(path, f"{place}/{path.relative_to(folder).as_posix()}")
    write(volume, pointer(digest), place.encode())
    return place


def write(volume: Volume, path: str, data: bytes) -> None:
    """Put one small file on the volume."""
    with volume.volume.batch_upload(force=True) as batch:
        batch.put_file(io.BytesIO(data), path)


def _listed(volume: Volume, place: str) -> Iterable[Any]:
    from modal.exception import NotFoundError

    try:
        yield from volume.volume.iterdir(place, recursive=True)
    except (FileNotFoundError, NotFoundError):
        return


def _batches(files: list[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in files:
        batch.append(path)
        size += path.stat().st_size
        if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
