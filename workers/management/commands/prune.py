"""`prune [--dry-run]`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from datasets_app.management.base import InputCommand
from workers.services import prune


class Command(InputCommand):
    """Delete what is old."""

    help = "Delete old jobs, checkpoints, datasets and records that nothing refers to (RETENTION_DAYS says how old)."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whether to delete at all."""
        parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        total = 0
        for what, size in prune(dry_run=options["dry_run"]):
            total += size
            self.say(f"{size / 1e6:10.1f} MB  {what}")
        verb = "would be deleted" if options["dry_run"] else "deleted"
        self.say(f"{total / 1e6:10.1f} MB  {verb}")
