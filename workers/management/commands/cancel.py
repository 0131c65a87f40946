"""`cancel NAME`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from datasets_app.errors import InputError
from datasets_app.management.base import InputCommand
from workers.selectors import get_work
from workers.services import cancel_unless_over


class Command(InputCommand):
    """Cancel a run or a pipeline."""

    help = "Ask a run, or a pipeline with all its runs, to end. What is over stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME."""
        parser.add_argument("name", help="name of the run or pipeline")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        work = get_work(options["name"])
        try:
            work = cancel_unless_over(work)
        except InputError as error:
            self.say(f"{work.name}: {error}")
            return
        asked = " (asked to end)" if work.cancel_requested and not work.is_over else ""
        self.say(f"{work.name}: {work.status}{asked}")
