"""`cancel_run NAME`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from datasets_app.management.base import InputCommand
from workers.selectors import get_run
from workers.services import cancel


class Command(InputCommand):
    """Cancel a run."""

    help = "Ask a run to end. One that is over stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME."""
        parser.add_argument("name", help="name of the run")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        run = cancel(get_run(options["name"]))
        asked = " (asked to end)" if run.cancel_requested and not run.is_over else ""
        self.say(f"{run.name}: {run.status}{asked}")
