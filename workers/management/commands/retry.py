"""`retry NAME`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from workers.management.following import FollowCommand
from workers.models import Pipeline
from workers.selectors import get_run
from workers.services import retry, retry_pipeline


class Command(FollowCommand):
    """Try again."""

    help = "Go on with a pipeline from the step that failed, or launch a failed or cancelled run again; where it was."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME, and whether to wait."""
        super().add_arguments(parser)
        parser.add_argument("name", help="name of the pipeline or run")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        pipeline, detach = Pipeline.objects.filter(name=options["name"]).first(), options["detach"]
        if pipeline is not None:
            self.follow_pipeline(retry_pipeline(pipeline), detach=detach)
            return
        run = retry(get_run(options["name"]))
        if run.pipeline is not None:
            self.follow_pipeline(run.pipeline, detach=detach)
        else:
            self.follow_run(run, detach=detach)
