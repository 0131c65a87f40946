"""`register_source NAME PATH`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from datasets_app.places import is_place
from datasets_app.selectors import get_source
from datasets_app.services import register_source
from workers.management.base import RunCommand
from workers.models import Run


class Command(RunCommand):
    """Register a source dataset."""

    help = "Register a folder of screenshots and conversations, or register it anew if its files have changed."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME and PATH."""
        parser.add_argument("name", help="name of the source dataset")
        parser.add_argument("path", help="folder with .jsonl files and their images, here or as volume:path on Modal")
        parser.add_argument("--format", default="llava", help="format of the files (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service, or let a run fetch the folder."""
        name, path, format = options["name"], options["path"], options["format"]
        if is_place(path):
            wish = {"what": "source", "name": name, "place": path, "format": format}
            self.launch(Run.Kind.FETCH, wish, None, {"backend": None, "detach": False})
            source = get_source(name)
        else:
            source = register_source(name, path, format=format)
        self.say(f"{source.name}: {source.rows} rows, {source.digest}")
