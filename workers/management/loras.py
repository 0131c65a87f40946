"""`config/loras.json`: where experts' files lie."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.validation import adapter_root
from datasets_app.errors import InputError
from datasets_app.names import check_name
from datasets_app.paths import read_file, resolved
from datasets_app.places import Place
from datasets_app.strict_json import json_object

MAX_BYTES = 16 * 2**20
DEFAULT_FILE = "config/loras.json"


class Entry(BaseModel):
    """Where one expert's files lie, and where their card, if they bring none: relative to this file's folder."""

    model_config = ConfigDict(extra="forbid")

    volume: str
    path: str
    card: str | None = None

    def place(self) -> Place:
        """The folder on Modal."""
        return Place.parse(f"{self.volume}:{self.path}")

    def folder(self) -> Path | None:
        """The local folder, which must be inside its volume; None if the volume is not below VOLUMES_ROOT."""
        volume = Path(settings.VOLUMES_ROOT) / check_name(self.volume, "volume")
        if not volume.is_dir():
            return None
        folder = resolved(volume / self.path, "The path")
        if not folder.is_relative_to(volume.resolve()):
            raise InputError(f"path {self.path!r} leaves its volume.")
        return adapter_root(folder)


class Loras(BaseModel):
    """`{"loras": {"calendar": {"volume": …, "path": …, "card": …}, …}}`; a card is rarely needed."""

    model_config = ConfigDict(extra="forbid")

    loras: dict[str, Entry]


def read(file: Path) -> Loras:
    """The file, checked."""
    try:
        return Loras.model_validate(json_object(read_file(file, "The list of adapters", MAX_BYTES), str(file)))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{file}, {field or 'top level'}: {first['msg']}.") from error
