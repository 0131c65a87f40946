"""The content-addressed store of adapter versions: files go in once, and are found by their hash only.

The digest is the SHA-256 of the canonical manifest, `{"<file name>": {"sha256": "…", "size": n}, …}` with
sorted keys and no spaces, so it depends on what the files hold and on nothing else.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from adapters.base_shape import BaseShape
from adapters.canaries import CANARY_FILE
from adapters.card import CARD_FILE, AdapterCard
from adapters.peft_config import CONFIG_FILE, read_invocation
from adapters.validation import MAX_JSON_BYTES, adapter_root, missing_weights, read_small, validate_adapter
from adapters.weights import WEIGHTS_FILE
from datasets_app.errors import InputError
from datasets_app.strict_json import json_object

MAX_BYTES = {
    CONFIG_FILE: MAX_JSON_BYTES,
    CARD_FILE: MAX_JSON_BYTES,
    WEIGHTS_FILE: 8 * 2**30,
    CANARY_FILE: MAX_JSON_BYTES,
}
"""The files of an adapter, all needed but the canaries, and how large each may be; others are ignored."""

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_CHUNK_BYTES = 2**20
_INCOMING = ".incoming-"
_ABANDONED_S = 24 * 3600


@dataclass(frozen=True)
class StoredFile:
    """One file: `sha256` in hex, `size` in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter version in the store; `size` is the sum of its files in bytes."""

    digest: str
    path: Path
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


class Store:
    """Adapter versions below `root`, a folder each, named by the hex digest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        directory: Path,
        kind: str | None = None,
        base: BaseShape | None = None,
        expected_base: str | None = None,
        default_card: AdapterCard | None = None,
    ) -> StoredAdapter:
        """Copy the adapter in `directory` (or its `final/`) into the store, and validate the copy.

        `default_card` is added to files that bring none, with the invocation that they name. Idempotent, and safe
        beside other adds of the same content. Raises InputError if the adapter is not of that `kind`, or is broken (see
        `validate_adapter`, which takes `base` and `expected_base`).
        """
        self._sweep()
        incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.root))
        try:
            files = _copy(adapter_root(directory), incoming, default_card)
            validate_adapter(incoming, base, expected_base)
            found = AdapterCard.read(incoming).kind
            if kind not in (None, found):
                raise InputError(f"{CARD_FILE}, field 'kind': the folder holds a {found}, but {kind!r} is asked for.")
            digest = manifest_digest(files)
            target = self._folder(digest)
            incoming.chmod(0o755)
            _fsync(incoming)
            try:
                incoming.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
                self.verify(digest)
            _fsync(self.root)
            return StoredAdapter(digest, target, files)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def path(self, digest: str) -> Path:
        """The folder of the adapter version with this digest; InputError if the store does not hold it."""
        folder = self._folder(digest)
        if not folder.is_dir():
            raise InputError(f"The store does not hold the adapter version {digest}.")
        return folder

    def verify(self, digest: str) -> StoredAdapter:
        """Hash the files again; InputError if they are not what was stored."""
        folder = self.path(digest)
        files = tuple(_hash(folder, name) for name in file_names(folder))
        _expect(files, digest)
        return StoredAdapter(digest, folder, files)

    def _folder(self, digest: str) -> Path:
        match = _DIGEST.fullmatch(digest)
        if not match:
            raise InputError("A digest is 'sha256:' and 64 hex digits.")
        return self.root / match[1]

    def _sweep(self) -> None:
        """Remove what killed processes left behind."""
        for leftover in self.root.glob(f"{_INCOMING}*"):
            with suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(leftover, ignore_errors=True)


def manifest_digest(files: tuple[StoredFile, ...]) -> str:
    """The digest of an adapter version from its files' hashes and sizes."""
    manifest = {file.name: {"sha256": file.sha256, "size": file.size} for file in files}
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def read_verified(directory: Path, digest: str) -> dict[str, bytes]:
    """Read the adapter's files into memory; InputError unless these very bytes have the digest.

    What is then loaded from the bytes can't have been swapped after the check.
    """
    contents = {}
    for name in file_names(directory):
        with _open(directory, name) as (file, _):
            contents[name] = file.read()
    files = tuple(StoredFile(name, hashlib.sha256(data).hexdigest(), len(data)) for name, data in contents.items())
    _expect(files, digest)
    return contents


def file_names(directory: Path) -> list[str]:
    """The files that belong to the adapter in `directory`."""
    return [name for name in sorted(MAX_BYTES) if name != CANARY_FILE or os.path.lexists(directory / name)]


def _expect(files: tuple[StoredFile, ...], digest: str) -> None:
    if manifest_digest(files) != digest:
        raise InputError(f"The files of adapter version {digest} have changed since they were stored.")


def _copy(source: Path, target: Path, default_card: AdapterCard | None) -> tuple[StoredFile, ...]:
    files = []
    for name in file_names(source):
        if name == CARD_FILE and default_card is not None and not os.path.lexists(source / name):
            with tempfile.TemporaryDirectory() as written:
                # The copy of the configuration is here already: the files come in the order of their names.
                invocation = read_invocation(json_object(read_small(target / CONFIG_FILE), CONFIG_FILE))
                default_card.model_copy(update={"invocation": invocation}).write(Path(written))
                files.append(_hash(Path(written), name, target / name))
        else:
            files.append(_hash(source, name, target / name))
    return tuple(files)


def _hash(directory: Path, name: str, copy: Path | None = None) -> StoredFile:
    """Hash one file while reading it once, and while writing it to `copy`."""
    digest, size = hashlib.sha256(), 0
    with _open(directory, name) as (file, limit), (copy or Path(os.devnull)).open("wb") as out:
        while chunk := file.read(_CHUNK_BYTES):
            if copy and size == 0 and name.endswith(".json"):
                chunk = chunk.removeprefix(codecs.BOM_UTF8)  # which PEFT and vLLM do not read over
            size += len(chunk)
            if size > limit:
                raise InputError(f"{name} is larger than {limit} bytes.")
            digest.update(chunk)
            out.write(chunk)
        if copy:
            out.flush()
            os.fsync(out.fileno())
            os.fchmod(out.fileno(), 0o444)
    return StoredFile(name, digest.hexdigest(), size)


@contextmanager
def _open(directory: Path, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file that truly lies in `directory`; yields it and its size limit."""
    try:
        real = (directory / name).resolve(strict=True)
        inside = real.is_relative_to(directory.resolve())
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise missing_weights(directory) if name == WEIGHTS_FILE else InputError(f"{name} is missing.") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} cannot be read.") from error
    status = os.fstat(handle)
    if not inside or not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES[name]:
        os.close(handle)
        reason = f"a regular file of at most {MAX_BYTES[name]} bytes" if inside else "no link out of its folder"
        raise InputError(f"{name} must be {reason}.")
    with os.fdopen(handle, "rb") as file:
        yield file, MAX_BYTES[name]


def _fsync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
