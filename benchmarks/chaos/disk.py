"""A small disk below the data folder, that can be filled."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTES = 256


class Disk:
    """The data folder's disk: one of its own where this user may mount one, else nothing is filled."""

    def __init__(self, folder: Path) -> None:
        self.filler = folder / "filler"
        self.is_own = os.path.ismount(folder)

    def fill(self) -> None:
        """Leave no room at all."""
        if not self.is_own:
            return
        with self.filler.open("wb", buffering=0) as file:
            for size in (2**20, 2**12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Give the room back."""
        self.filler.unlink(missing_ok=True)

    @property
    def is_full(self) -> bool:
        """Whether it was filled and not freed."""
        return self.filler.exists()


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mount a disk of memory on `folder`, if that is allowed here."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        yield Disk(folder)
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
