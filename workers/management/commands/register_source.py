"""`register_source NAME PATH`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from datasets_app.places import is_place
from datasets_app.selectors import get_source
from datasets_app.services import register_source
from workers.management.following import FollowCommand
from workers.models import Run
from workers.services import launch


class Command(FollowCommand):
    """Register a source dataset."""

    help = "Register a folder of screenshots and conversations, or register it anew if its files have changed."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME and PATH, and whether to wait where a run fetches it."""
        super().add_arguments(parser)
        parser.add_argument("name", help="name of the source dataset")
        parser.add_argument("path", help="folder with .jsonl files and their images, here or as volume:path on Modal")
        parser.add_argument("--format", default="llava", help="format of the files (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service, or let a run fetch the folder."""
        name, path, format = options["name"], options["path"], options["format"]
        if is_place(path):
            wish = {"what": "source", "name": name, "place": path, "format": format}
            if self.follow_run(launch(Run.Kind.FETCH, wish), detach=options["detach"]) is None:
                return
            source = get_source(name)
        else:
            source = register_source(name, path, format=format)
        self.say(f"{source.name}: {source.rows} rows, {source.digest}")
