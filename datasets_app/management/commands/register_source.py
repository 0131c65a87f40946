"""`register_source NAME PATH`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from datasets_app.management.base import InputCommand
from datasets_app.services import register_source


class Command(InputCommand):
    """Register a source dataset."""

    help = "Register a folder of screenshots and conversations, or register it anew if its files have changed."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME and PATH."""
        parser.add_argument("name", help="name of the source dataset")
        parser.add_argument("path", help="folder with one or more .jsonl files and their images")
        parser.add_argument("--format", default="llava", help="format of the files (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        source = register_source(options["name"], options["path"], format=options["format"])
        self.say(f"{source.name}: {source.rows} rows, {source.digest}")
