"""`import_loras config/loras.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.db import transaction
from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.models import AdapterVersion
from adapters.services import add_version, register_adapter
from adapters.validation import adapter_root
from datasets_app.errors import InputError
from datasets_app.management.base import InputCommand
from datasets_app.names import check_name


class Place(BaseModel):
    """Where an expert's files lie."""

    model_config = ConfigDict(extra="forbid")

    volume: str
    path: str

    def folder(self) -> Path:
        """The local folder, which must be inside its volume."""
        volume = Path(settings.VOLUMES_ROOT) / check_name(self.volume, "volume")
        folder = (volume / self.path).resolve()
        if not folder.is_relative_to(volume.resolve()):
            raise InputError(f"path {self.path!r} leaves its volume.")
        return adapter_root(folder)


class Loras(BaseModel):
    """`{"loras": {"calendar": {"volume": …, "path": …}, …}}`."""

    model_config = ConfigDict(extra="forbid")

    loras: dict[str, Place]


class Command(InputCommand):
    """Store the files of many experts."""

    help = "Store the files of every expert that FILE names: all of them, or none if anything is wrong."

    def add_arguments(self, parser: CommandParser) -> None:
        """FILE."""
        parser.add_argument("file", nargs="?", default="config/loras.json", help="default: %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        """Find everything first, then import in one transaction."""
        file = Path(options["file"])
        folders = {name: located(file, name, place) for name, place in read(file).loras.items()}
        with transaction.atomic():
            versions = [imported(file, name, folder) for name, folder in folders.items()]
        for version in versions:
            self.say(f"{version}: {version.digest}")


def read(file: Path) -> Loras:
    """The file, checked."""
    try:
        return Loras.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{file}, {field or 'top level'}: {first['msg']}.") from error


def located(file: Path, name: str, place: Place) -> Path:
    """The folder with the expert's files."""
    try:
        check_name(name, "adapter name")
        return place.folder()
    except InputError as error:
        raise InputError(f"{file}, {name!r} ({place.volume}/{place.path}): {error}") from error


def imported(file: Path, name: str, folder: Path) -> AdapterVersion:
    """The stored version."""
    try:
        return add_version(register_adapter(name), folder)
    except InputError as error:
        raise InputError(f"{file}, {name!r}: {error}") from error
