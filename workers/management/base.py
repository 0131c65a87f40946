"""What the commands share that launch runs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from workers.management.following import FollowCommand
from workers.models import Run
from workers.services import launch


class RunCommand(FollowCommand):
    """Launches one run and waits for it."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to run, for how long, and whether to wait."""
        super().add_arguments(parser)
        parser.add_argument("--backend", help="compute backend (default: the COMPUTE_DEFAULT setting)")
        parser.add_argument("--time-limit", type=int, metavar="SECONDS", help="from its first launch to its end")

    def launch(self, kind: str, params: dict[str, Any], name: str | None, options: dict[str, Any]) -> Run | None:
        """Launch and watch the run; None if nobody waits for it."""
        run = launch(kind, params, name=name, backend=options["backend"], time_limit=options["time_limit"])
        return self.follow_run(run, detach=options["detach"])
