"""Files on volumes, from outside: listed, brought here, sent there. Nothing is held in memory as a whole."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import aiohttp
import modal
from modal.exception import AuthError, Error, InvalidError, NotFoundError, PermissionDeniedError
from modal.types import FileEntryType

from datasets_app.errors import InputError
from datasets_app.places import Place
from datasets_app.text import cut_urls
from workers.recipes.errors import RecipeError

WAITS = (1.0, 5.0, 20.0, 60.0)
"""Seconds before the same is asked again, after the client's own tries have failed."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Entry:
    """A file of a folder: `name` relative to it, `size` in bytes, `mtime` in seconds."""

    name: str
    size: int
    mtime: int


class Folder:
    """A folder on a volume. What is wrong with it is an InputError that names volume and path."""

    def __init__(self, place: Place, environment: str | None = None) -> None:
        self.place = place
        self.volume = modal.Volume.from_name(place.volume, environment_name=environment)

    def __truediv__(self, name: str) -> Folder:
        child = object.__new__(Folder)
        child.place, child.volume = Place(self.place.volume, _join(self.place.path, name)), self.volume
        return child

    def files(self, *, recursive: bool = True) -> list[Entry]:
        """Its files, by name; [] if there is no such folder. InputError for names that leave it, and for links."""
        path = "/" if self.place.path == "." else self.place.path
        with self._named():
            try:
                self._patiently(self.volume.hydrate)
            except NotFoundError as error:
                raise InputError(f"There is no volume {self.place.volume!r} on Modal ({self.place}).") from error
            try:
                listed = self._patiently(lambda: self.volume.listdir(path, recursive=recursive))
            except (NotFoundError, FileNotFoundError):
                return []
        found = []
        for entry in listed:
            if entry.type == FileEntryType.DIRECTORY:
                continue
            found_at = PurePosixPath(entry.path.lstrip("/"))
            inside = found_at.is_relative_to(self.place.path) or self.place.path == "."
            if entry.type != FileEntryType.FILE or not inside or ".." in found_at.parts or "\0" in entry.path:
                raise InputError(f"{self.place}: {entry.path[:200]!r} is not a regular file inside the folder.")
            name = (found_at if self.place.path == "." else found_at.relative_to(self.place.path)).as_posix()
            if name == ".":
                raise InputError(f"{self.place} is a file, not a folder.")
            found.append(Entry(name, entry.size, entry.mtime))
        return sorted(found, key=lambda entry: entry.name)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The file's first `limit` bytes."""

        def head() -> bytes:
            data = b""
            for block in self.volume.read_file(_join(self.place.path, entry.name)):
                data += block
                if len(data) >= limit:
                    break
            return data[:limit]

        with self._named(entry.name):
            return self._patiently(head)

    def hash(self, entry: Entry) -> str:
        """SHA-256 of the file, streamed, in hex."""

        def digest() -> str:
            total = hashlib.sha256()
            for block in self.volume.read_file(_join(self.place.path, entry.name)):
                total.update(block)
            return total.hexdigest()

        with self._named(entry.name):
            return self._patiently(digest)

    def bring(self, entry: Entry, folder: Path, progress: Callable[[int], None]) -> None:
        """Stream the file into `folder`, with its time; one that is there with that size and time is not moved.

        `progress` is told the bytes written so far. What has not come whole lies in `partials(folder)`.
        """
        target = folder / entry.name
        if target.is_file() and (target.stat().st_size, int(target.stat().st_mtime)) == (entry.size, entry.mtime):
            progress(entry.size)
            return
        partial = partials(folder) / hashlib.sha256(entry.name.encode()).hexdigest()
        for parent in (partial.parent, target.parent):
            parent.mkdir(parents=True, exist_ok=True)

        def copy() -> None:
            written = 0
            with partial.open("wb") as file:
                for block in self.volume.read_file(_join(self.place.path, entry.name)):
                    written += len(block)
                    if written > entry.size:
                        break
                    file.write(block)
                    progress(written)
            if {written, partial.stat().st_size} != {entry.size}:
                raise InputError(f"{self.place}: {entry.name} was changed while it was read: try again.")

        with self._named(entry.name):
            self._patiently(copy)
        os.utime(partial, (entry.mtime, entry.mtime))
        partial.replace(target)

    def send(self, files: dict[str, Path]) -> None:
        """Put files into the folder, all of them or none, in the place of those of the same names."""

        def put() -> None:
            with self.volume.batch_upload(force=True) as batch:
                for name, path in files.items():
                    batch.put_file(path, _join(self.place.path, name))

        with self._named():
            self._patiently(put)

    @staticmethod
    def _patiently(work: Callable[[], Answer]) -> Answer:
        """The answer, asked for again where Modal does not give one."""
        for wait in WAITS:
            try:
                return work()
            except _FINAL:
                raise
            except (Error, aiohttp.ClientError, ConnectionError, TimeoutError):
                time.sleep(wait)
        return work()

    @contextmanager
    def _named(self, name: str = "") -> Iterator[None]:
        where = f"{self.place}, {name}" if name else str(self.place)
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            raise InputError(f"{where}: it is not on the volume.") from error
        except AuthError as error:
            raise InputError(f"{where}: Modal refuses the token; set one with `modal token set`.") from error
        except PermissionDeniedError as error:
            raise InputError(f"{where}: the Modal token may not read the volume.") from error
        except (Error, aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise RecipeError(
                f"{where}: Modal does not answer: {cut_urls(str(error)) or type(error).__name__}"
            ) from error


_FINAL = (NotFoundError, FileNotFoundError, AuthError, PermissionDeniedError)


def open_or_make(name: str, setting: str) -> modal.Volume:
    """The volume of that name, of whichever version; where there is none, one of version 2 is made.

    InputError that names the setting which the name comes from if neither can be done. A container takes what it was
    given.
    """
    if modal.is_local():
        try:
            try:
                modal.Volume.from_name(name).hydrate()
            except NotFoundError:
                modal.Volume.objects.create(name, version=2, allow_existing=True)
        except (InvalidError, PermissionDeniedError) as error:
            words = " ".join(str(error).split())
            raise InputError(f"{setting}: the volume {name!r} can be neither opened nor made: {words}") from error
    return modal.Volume.from_name(name)


def partials(folder: Path) -> Path:
    """Where the files lie that are on their way into the folder: beside it, so that no file's name can be theirs."""
    return folder.with_name(f"{folder.name}.partial")


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"
