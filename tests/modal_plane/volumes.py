"""Volumes of both versions: what is committed, and each container's own copy of it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from grpclib import Status
from modal.volume import BLOCK_SIZE
from modal_proto import api_pb2 as pb

from tests.modal_plane.blobs import Blobs
from tests.modal_plane.service import no

V1, V2 = pb.VOLUME_FS_VERSION_V1, pb.VOLUME_FS_VERSION_V2


class Copy:
    """A container's view of a volume: others see its writes after `push`, it sees theirs after `pull`."""

    def __init__(self, committed: Path, place: Path, read_only: bool) -> None:
        self.committed = committed
        self.place = place
        self.read_only = read_only
        self._synced: dict[str, tuple[int, int]] = {}
        place.mkdir(parents=True)
        self.pull()

    def pull(self) -> None:
        """Take over what is committed."""
        theirs, mine = _files(self.committed), _files(self.place)
        for name in mine.keys() - theirs.keys():
            if mine[name] == self._synced.get(name):
                (self.place / name).unlink()
        for name, facts in theirs.items():
            if mine.get(name) != facts:
                _copy(self.committed / name, self.place / name)
        self._synced = _files(self.place)

    def push(self) -> None:
        """Commit what was written or removed since."""
        mine = _files(self.place)
        if self.read_only:
            if mine != self._synced:
                raise no(Status.FAILED_PRECONDITION, "the volume is mounted read-only")
            return
        for name in self._synced.keys() - mine.keys():
            (self.committed / name).unlink(missing_ok=True)
        for name, facts in mine.items():
            if self._synced.get(name) != facts:
                _copy(self.place / name, self.committed / name)
        self._synced = mine

    def opened_by(self, pid: int) -> str:
        """A file of the copy that the process has open or mapped, or ''. Where there is no /proc, ''."""
        used = []
        with suppress(OSError):
            mapped = Path(f"/proc/{pid}/maps").read_text().splitlines()
            used += [line.split(maxsplit=5)[5] for line in mapped if "/" in line]
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                used.append(str(link.readlink()))
        return next((name.removeprefix(f"{self.place}/") for name in used if name.startswith(f"{self.place}/")), "")


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification time and size of every file below, by its path."""
    found = {}
    for path in folder.rglob("*"):
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = (facts.st_mtime_ns, facts.st_size)
    return found


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".plane-{os.getpid()}-{target.name}")
    shutil.copy2(source, partial)
    partial.replace(target)


class Volumes:
    """By name, each a folder of committed files. `uploaded` are the files of mounts by hash, where those for volumes of
    version 1 go, too.
    """

    def __init__(self, root: Path, blobs: Blobs, uploaded: dict[str, Path]) -> None:
        self.root = root
        self.blobs = blobs
        self.uploaded = uploaded
        self.versions: dict[str, int] = {}
        self._lock = asyncio.Lock()

    def metadata(self, volume_id: str) -> pb.VolumeMetadata:
        """As the client sees the volume; one that a test has put there is of version 2."""
        name = volume_id.removeprefix("vo-")
        return pb.VolumeMetadata(version=self.versions.get(name, V2), name=name)  # type: ignore[arg-type]

    def committed(self, volume_id: str) -> Path:
        """The folder of a volume's committed files."""
        return self.root / volume_id.removeprefix("vo-")

    def VolumeGetOrCreate(self, request: Any) -> pb.VolumeGetOrCreateResponse:
        name = request.deployment_name
        folder = self.root / name
        if folder.exists():
            if request.object_creation_type == pb.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
                raise no(Status.ALREADY_EXISTS, f"Volume '{name}' already exists")
        elif request.object_creation_type == pb.OBJECT_CREATION_TYPE_UNSPECIFIED:
            raise no(Status.NOT_FOUND, f"Volume '{name}' not found in environment 'main'")
        else:
            folder.mkdir(parents=True)
            self.versions[name] = request.version or V1
        metadata = self.metadata(f"vo-{name}")
        return pb.VolumeGetOrCreateResponse(volume_id=f"vo-{name}", version=metadata.version, metadata=metadata)

    async def VolumeDelete(self, request: Any) -> None:
        async with self._lock:
            await asyncio.to_thread(shutil.rmtree, self.committed(request.volume_id))

    async def VolumePutFiles2(self, request: Any) -> pb.VolumePutFiles2Response:
        self._must_be(V2, request)
        response = pb.VolumePutFiles2Response()
        for index, file in enumerate(request.files):
            for number, block in enumerate(file.blocks):
                if not self.blobs.path(block.contents_sha256.hex()).exists():
                    url = f"{self.blobs.url}/{block.contents_sha256.hex()}"
                    response.missing_blocks.add(file_index=index, block_index=number, put_url=url)
        if not response.missing_blocks:
            async with self._lock:
                await asyncio.to_thread(self._put, request)
        return response

    async def VolumePutFiles(self, request: Any) -> None:
        self._must_be(V1, request)
        async with self._lock:
            for file in request.files:
                _copy(self.uploaded[file.sha256_hex], self._free(request, file.filename))

    def _free(self, request: Any, name: str) -> Path:
        """Where the file is to lie."""
        target = self._inside(request.volume_id, name)
        if request.disallow_overwrite_existing_files and target.exists():
            raise no(Status.ALREADY_EXISTS, f"{name}: already exists")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _put(self, request: Any) -> None:
        for file in request.files:
            target = self._free(request, file.path)
            partial = target.with_name(f".plane-{target.name}")
            with partial.open("wb") as out:
                for block in file.blocks:
                    out.write(self.blobs.read(block.contents_sha256.hex()))
                out.truncate(file.size)
            partial.replace(target)

    async def VolumeListFiles(self, request: Any) -> AsyncIterator[pb.VolumeListFilesResponse]:
        self._must_be(V1, request)
        yield pb.VolumeListFilesResponse(entries=self._entries(request))

    async def VolumeListFiles2(self, request: Any) -> AsyncIterator[pb.VolumeListFiles2Response]:
        self._must_be(V2, request)
        yield pb.VolumeListFiles2Response(entries=self._entries(request))

    def _entries(self, request: Any) -> list[pb.FileEntry]:
        root, place = self.committed(request.volume_id), self._inside(request.volume_id, request.path)
        if not place.exists():
            raise no(Status.NOT_FOUND, f"No such file or directory: {request.path}")
        below = place.rglob("*") if request.recursive else place.glob("*")
        found = []
        for path in [place] if place.is_file() else sorted(below):
            kind = pb.FileEntry.DIRECTORY if path.is_dir() else pb.FileEntry.FILE
            facts = path.stat()
            name = path.relative_to(root).as_posix()
            found.append(pb.FileEntry(path=name, type=kind, mtime=int(facts.st_mtime), size=facts.st_size))
        return found

    def VolumeGetFile2(self, request: Any) -> pb.VolumeGetFile2Response:
        path = self._inside(request.volume_id, request.path)
        if not path.is_file():
            raise no(Status.NOT_FOUND, f"No such file: {request.path}")
        response = pb.VolumeGetFile2Response(size=path.stat().st_size, start=0, len=path.stat().st_size)
        with path.open("rb") as file:
            while data := file.read(BLOCK_SIZE):
                name = hashlib.sha256(data).hexdigest()
                self.blobs.path(name).write_bytes(data)
                response.get_urls.append(f"{self.blobs.url}/{name}")
        return response

    def VolumeRemoveFile(self, request: Any) -> None:
        self._must_be(V1, request)
        self._remove(request)

    def VolumeRemoveFile2(self, request: Any) -> None:
        self._must_be(V2, request)
        self._remove(request)

    def _remove(self, request: Any) -> None:
        path = self._inside(request.volume_id, request.path)
        if path.is_dir() and request.recursive:
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
        else:
            raise no(Status.NOT_FOUND, f"No such file: {request.path}")

    async def VolumeCommit(self, request: Any, container: Any) -> pb.VolumeCommitResponse:
        async with self._lock:
            await asyncio.to_thread(container.volumes[request.volume_id].push)
        return pb.VolumeCommitResponse(skip_reload=self.metadata(request.volume_id).version == V2)

    async def VolumeReload(self, request: Any, container: Any) -> None:
        copy = container.volumes[request.volume_id]
        if opened := copy.opened_by(container.process.pid):
            raise no(Status.FAILED_PRECONDITION, f"there are open files preventing the operation: {opened}")
        async with self._lock:
            await asyncio.to_thread(copy.pull)

    def _must_be(self, version: int, request: Any) -> None:
        if self.metadata(request.volume_id).version != version:
            raise no(Status.FAILED_PRECONDITION, f"{request.volume_id} is not of version {version}")

    def _inside(self, volume_id: str, name: str) -> Path:
        root = self.committed(volume_id).resolve()
        path = (root / name.lstrip("/")).resolve()
        if not path.is_relative_to(root):
            raise no(Status.INVALID_ARGUMENT, f"{name}: leaves the volume")
        return path
