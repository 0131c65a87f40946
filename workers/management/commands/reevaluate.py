"""`reevaluate`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from workers.management.pipelines import PipelineCommand
from workers.services import reevaluate


class Command(PipelineCommand):
    """Evaluate what serves again."""

    help = "Evaluate the serving stack again and compare with the figure at its promotion."

    def add_arguments(self, parser: CommandParser) -> None:
        """On what, and what follows."""
        super().add_arguments(parser)
        words = "of each class, newly drawn (default: as many as were held out when the router was made; 0: none)"
        parser.add_argument("--fresh-samples", type=int, help=words)
        parser.add_argument("--rollback", action="store_true", help="go back to the stack before, after a fall")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        wish = {key: options[key] for key in ("fresh_samples", "rollback", "pipeline", "backend")}
        self.follow_pipeline(reevaluate(**wish), detach=options["detach"])
