"""`retrain_router`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from workers.management.pipelines import PipelineCommand
from workers.services import retrain_router


class Command(PipelineCommand):
    """Train the serving router anew."""

    help = "Train the serving router anew, from its sources as they are now, and put it live if it is better."

    def add_arguments(self, parser: CommandParser) -> None:
        """What differs from the serving router."""
        parser.add_argument("--adapters", nargs="+", metavar="NAME", help="its classes (default: as they are)")
        self.add_router_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        self.follow_pipeline(
            retrain_router(adapters=options["adapters"], **self.router_options(options)), detach=options["detach"]
        )
