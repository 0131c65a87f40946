"""Adapters and stacks on their way to the volume, each content once."""

from __future__ import annotations

import io

import modal
from modal.exception import NotFoundError

from adapters.store import Store, file_names
from inference.engines import wire
from inference.engines.modal.places import adapter_folder, stack_file
from inference.engines.types import StackSpec


def upload_adapters(stack: StackSpec, store: Store, volume: modal.Volume) -> None:
    """Bring what the volume lacks of the stack's adapters; InputError if the store lacks it or it has changed."""
    for digest in dict.fromkeys(adapter.digest for adapter in (stack.router, *stack.experts)):
        place = adapter_folder(digest)
        if set(file_names(store.path(digest))) <= _names(volume, place):
            continue
        stored = store.verify(digest)
        with volume.batch_upload(force=True) as batch:
            for file in stored.files:
                batch.put_file(stored.path / file.name, f"{place}/{file.name}")


def record_stack(stack: StackSpec, volume: modal.Volume) -> None:
    """Let containers that start later find the stack."""
    with volume.batch_upload(force=True) as batch:
        batch.put_file(io.BytesIO(wire.dump_stack(stack)), stack_file(stack.digest))


def _names(volume: modal.Volume, folder: str) -> set[str]:
    try:
        return {entry.path.rpartition("/")[2] for entry in volume.listdir(folder)}
    except (FileNotFoundError, NotFoundError):
        return set()
