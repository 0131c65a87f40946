"""`import_loras config/loras.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from adapters.models import Adapter, AdapterVersion
from adapters.services import (
    StoredFiles,
    check_adapter,
    configured_base,
    record_version,
    register_adapter,
    store_files,
)
from datasets_app.errors import InputError
from datasets_app.places import Place
from workers.management.cards import read_card
from workers.management.following import FollowCommand, leaving
from workers.management.loras import DEFAULT_FILE, Entry, read
from workers.management.watch import watch
from workers.models import Run
from workers.services import launch
from workers.states import Status


class Command(FollowCommand):
    """Store the files of many experts."""

    help = (
        "Store the files of every expert that FILE names. Those of volumes that are folders below VOLUMES_ROOT: all of "
        "them, or none if anything is wrong. Those of volumes on Modal: by a run each."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """FILE, and whether to wait for the runs."""
        super().add_arguments(parser)
        parser.add_argument("file", nargs="?", default=DEFAULT_FILE, help="default: %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        """Find everything first, then import."""
        file = Path(options["file"])
        found = [located(file, name, entry) for name, entry in read(file).loras.items()]
        stored = [(one, stored_files(file, one)) for one in found if isinstance(one.place, Path)]
        with transaction.atomic():
            versions = [recorded(file, one, files) for one, files in stored]
        for version in versions:
            self.say(f"{version}: {version.digest}")
            self.caution(version)
        self._fetch([one for one in found if isinstance(one.place, Place)], options["detach"])

    def _fetch(self, found: list[Located], detach: bool) -> None:
        wishes = [{"what": "adapter", "name": one.name, "place": str(one.place), "card": one.card} for one in found]
        runs = [launch(Run.Kind.FETCH, wish) for wish in wishes]
        if not detach:
            with leaving("What was launched goes on; `cancel NAME` ends a run."):
                watch(runs)
        for run in runs:
            self.say(f"{run.adapter_version or run}: {run.error or run.status}")
            self.caution(run.adapter_version)
        failed = [run.name for run in runs if run.status in (Status.FAILED, Status.CANCELLED)]
        if failed:
            raise CommandError(f"Not imported: {', '.join(failed)}.", returncode=1)


@dataclass(frozen=True)
class Located:
    """An expert's files, here or on Modal, and the card that they lack."""

    name: str
    place: Path | Place
    card: dict[str, Any] | None


def located(file: Path, name: str, entry: Entry) -> Located:
    """Where its files lie, and its card; InputError names what is wrong with the entry."""
    try:
        check_adapter(name, "expert")
        card = read_card(file.parent / entry.card) if entry.card else None
        return Located(name, entry.folder() or entry.place(), card)
    except InputError as error:
        raise InputError(f"{file}, {name!r} ({entry.volume}/{entry.path}): {error}") from error


def stored_files(file: Path, found: Located) -> StoredFiles:
    """Its files in the store."""
    try:
        return store_files(str(found.place), Adapter.Kind.EXPERT, configured_base(), card=found.card)
    except InputError as error:
        raise InputError(f"{file}, {found.name!r}: {error}") from error


def recorded(file: Path, found: Located, files: StoredFiles) -> AdapterVersion:
    """The version that they are."""
    try:
        return record_version(register_adapter(found.name), files)
    except InputError as error:
        raise InputError(f"{file}, {found.name!r}: {error}") from error
