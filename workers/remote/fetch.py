"""Fetch an adapter or a source dataset from a volume of Modal's, and check it.

Unlike the other recipes it runs on this installation's machine, which has the account's token. What can be told from
the listing, the small files and the header of the weights is told before anything large is moved; a fetch that was cut
short goes on where it was.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field

from adapters.backbone.spec import BaseSpec
from adapters.base_shape import BaseShape
from adapters.card import CARD_FILE, OWN_CARD, AdapterCard
from adapters.peft_config import CONFIG_FILE
from adapters.store import MAX_BYTES
from adapters.validation import HEAD_BYTES, MAX_JSON_BYTES, validate_card, validate_header
from adapters.weights import WEIGHTS_FILE
from datasets_app.errors import InputError
from datasets_app.formats import inspect_source
from datasets_app.formats.digest import is_hidden
from datasets_app.places import Place
from workers.recipes.errors import RecipeError
from workers.recipes.execute import REPORT_INTERVAL
from workers.recipes.job import Job, RecipeSpec
from workers.remote.volumes import Entry, Folder, partials

STEPS = ("fetch", "check")
MIB = 2**20
THREADS, BATCH = 16, 1000
"""How many files are under way at once, and how many are thought of at once."""


class Spec(RecipeSpec):
    """What is fetched, and from where."""

    what: Literal["adapter", "source"] = Field(description="what lies there")
    place: str = Field(description="volume:path; an adapter's files may lie in its final/ subfolder")
    environment: str | None = Field(None, description="Modal's environment")
    base: str = Field("", description="base model that an adapter belongs to, a folder or a hub id")
    base_fingerprint: str = Field("", description="of that base model")
    has_card: bool = Field(False, description="its card was given, so that it must bring none")
    format: str = Field("llava", description="format of a source dataset")
    max_files: int = Field(1_000_000, gt=0, description="most files of a source dataset")
    max_gb: float = Field(200.0, gt=0, description="most gigabytes of a source dataset")


def run(spec: Spec, job: Job) -> dict[str, Any]:
    """Leave the files in `job.out`; say how many and how large, and of a source dataset its digest and rows.

    InputError names volume, path and file of what is wrong.
    """
    folder = Folder(Place.parse(spec.place), spec.environment)
    if spec.what == "adapter":
        folder, entries = _adapter(folder, spec)
    else:
        entries = _source(folder, spec)
    size = sum(entry.size for entry in entries)
    if shutil.disk_usage(job.out).free < size + 2**30:
        raise InputError(f"{folder.place} holds {size / 1e9:.1f} GB, for which there is no room on this disk.")
    _bring(folder, entries, job)
    if _listed(folder, spec) != entries:
        raise InputError(f"{folder.place} was changed while it was read: try again.")
    facts: dict[str, Any] = {"place": str(folder.place), "files": len(entries), "size": size}
    if spec.what == "source":
        job.progress("check", 0, 1)
        try:
            found = inspect_source(job.out, spec.format)
        except InputError as error:
            raise InputError(f"{folder.place}, {error}") from error
        facts |= asdict(found)
    job.progress("check", 1, 1)
    return facts


class Moved:
    """How many bytes have come, of files that several threads bring."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.is_stopped = False
        self._settled = 0
        self._under_way: dict[str, int] = {}

    @property
    def bytes(self) -> int:
        return self._settled + sum(self._under_way.copy().values())

    def of(self, entry: Entry) -> Callable[[int], None]:
        """What is to be called with the bytes that have come of one file."""

        def note(written: int) -> None:
            if self.is_stopped:
                raise RecipeError("The fetch was ended.")
            self._under_way[entry.name] = written

        return note

    def settle(self, entries: list[Entry]) -> None:
        """These files are here."""
        self._settled += sum(entry.size for entry in entries)
        self._under_way.clear()


def _adapter(folder: Folder, spec: Spec) -> tuple[Folder, list[Entry]]:
    """The folder with the files, itself or its `final/`, and the files; all that is small has been checked."""
    for place in (folder, folder / "final"):
        entries = _listed(place, spec)
        found = {entry.name: entry for entry in entries}
        if CONFIG_FILE in found:
            break
    else:
        raise InputError(f"{folder.place}: neither the folder nor its final/ subfolder has an {CONFIG_FILE}.")
    if WEIGHTS_FILE not in found:
        raise InputError(f"{place.place}: {WEIGHTS_FILE} is missing; pickle weights are not accepted.")
    for entry in entries:
        if entry.size > MAX_BYTES[entry.name]:
            raise InputError(f"{place.place}: {entry.name} is larger than {MAX_BYTES[entry.name]} bytes.")
    shape = BaseShape.find(BaseSpec(spec.base)) if spec.base else None
    card = place.read(found[CARD_FILE], MAX_JSON_BYTES) if CARD_FILE in found else None
    config = place.read(found[CONFIG_FILE], MAX_JSON_BYTES)
    head = place.read(found[WEIGHTS_FILE], HEAD_BYTES)
    try:
        if card is not None:
            if spec.has_card:
                raise InputError(OWN_CARD)
            validate_card(AdapterCard.parse(card, CARD_FILE), spec.base_fingerprint or None, shape)
        validate_header(config, io.BytesIO(head), found[WEIGHTS_FILE].size, shape)
    except InputError as error:
        raise InputError(f"{place.place}: {error}") from error
    return place, entries


def _source(folder: Folder, spec: Spec) -> list[Entry]:
    entries = _listed(folder, spec)
    size = sum(entry.size for entry in entries)
    if not entries:
        raise InputError(f"{folder.place}: there are no files.")
    if len(entries) > spec.max_files or size > spec.max_gb * 1e9:
        raise InputError(
            f"{folder.place} holds {len(entries)} files and {size / 1e9:.1f} GB; "
            f"at most {spec.max_files} and {spec.max_gb:g} GB are fetched."
        )
    return entries


def _listed(folder: Folder, spec: Spec) -> list[Entry]:
    """The files that count."""
    if spec.what == "source":
        return [entry for entry in folder.files() if not is_hidden(entry.name)]
    return [entry for entry in folder.files(recursive=False) if entry.name in MAX_BYTES]


def _bring(folder: Folder, entries: list[Entry], job: Job) -> None:
    """All files, by way of `job.work`, so that what has come stays if the job is killed."""
    scratch = job.work / "files"
    moved = Moved(sum(entry.size for entry in entries))
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for start in range(0, len(entries), BATCH):
                batch = entries[start : start + BATCH]
                left = {pool.submit(folder.bring, entry, scratch, moved.of(entry)) for entry in batch}
                while left:
                    done, left = wait(left, timeout=REPORT_INTERVAL)
                    for task in done:
                        task.result()
                    job.progress("fetch", moved.bytes // MIB, max(1, moved.total // MIB))
                moved.settle(batch)
        except BaseException:
            moved.is_stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for entry in entries:
        target = job.out / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        (scratch / entry.name).replace(target)
    for emptied in (scratch, partials(scratch)):
        shutil.rmtree(emptied, ignore_errors=True)
