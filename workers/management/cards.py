"""The card of adapter files that bring none, as a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from adapters.card import CARD_FILE
from adapters.validation import MAX_JSON_BYTES
from datasets_app.paths import read_file
from datasets_app.strict_json import json_object


def add_card(parser: CommandParser) -> None:
    """`--card FILE`."""
    words = f"JSON with fields of the card of files without {CARD_FILE}: what they were trained with (docs/data.md)"
    parser.add_argument("--card", metavar="FILE", help=words)


def read_card(file: str | Path | None) -> dict[str, Any] | None:
    """The fields in `file`; None without one."""
    if file is None:
        return None
    return json_object(read_file(file, "The card", MAX_JSON_BYTES), Path(file).name)
