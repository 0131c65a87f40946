"""`import_loras config/loras.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from adapters.models import AdapterVersion
from adapters.services import add_version, check_adapter, register_adapter
from datasets_app.errors import InputError
from datasets_app.management.base import InputCommand
from datasets_app.places import Place
from workers.management.loras import DEFAULT_FILE, Entry, read
from workers.management.watch import watch
from workers.models import Run
from workers.services import launch
from workers.states import Status


class Command(InputCommand):
    """Store the files of many experts."""

    help = (
        "Store the files of every expert that FILE names. Those of volumes that are folders below VOLUMES_ROOT: all of "
        "them, or none if anything is wrong. Those of volumes on Modal: by a run each."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """FILE."""
        parser.add_argument("file", nargs="?", default=DEFAULT_FILE, help="default: %(default)s")
        parser.add_argument("--detach", action="store_true", help="do not wait for the runs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Find everything first, then import."""
        file = Path(options["file"])
        places = {name: located(file, name, entry) for name, entry in read(file).loras.items()}
        with transaction.atomic():
            local = {name: folder for name, folder in places.items() if isinstance(folder, Path)}
            versions = [imported(file, name, folder) for name, folder in local.items()]
        for version in versions:
            self.say(f"{version}: {version.digest}")
        self._fetch([(name, place) for name, place in places.items() if isinstance(place, Place)], options["detach"])

    def _fetch(self, places: list[tuple[str, Place]], detach: bool) -> None:
        wishes = [{"what": "adapter", "name": name, "place": str(place)} for name, place in places]
        runs = [launch(Run.Kind.FETCH, wish) for wish in wishes]
        if not detach:
            watch(runs)
        for run in runs:
            self.say(f"{run.adapter_version or run}: {run.error or run.status}")
        failed = [run.name for run in runs if run.status in (Status.FAILED, Status.CANCELLED)]
        if failed:
            raise CommandError(f"Not imported: {', '.join(failed)}.", returncode=1)


def located(file: Path, name: str, entry: Entry) -> Path | Place:
    """The folder with the expert's files, here or on Modal."""
    try:
        check_adapter(name, "expert")
        return entry.folder() or entry.place()
    except InputError as error:
        raise InputError(f"{file}, {name!r} ({entry.volume}/{entry.path}): {error}") from error


def imported(file: Path, name: str, folder: Path) -> AdapterVersion:
    """The stored version."""
    try:
        return add_version(register_adapter(name), folder)
    except InputError as error:
        raise InputError(f"{file}, {name!r}: {error}") from error
