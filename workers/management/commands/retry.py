"""`retry NAME`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from workers.management.pipelines import PipelineCommand
from workers.models import Pipeline
from workers.selectors import get_run
from workers.services import retry, retry_pipeline


class Command(PipelineCommand):
    """Try again."""

    help = "Go on with a pipeline from the step that failed, or launch a failed or cancelled run again."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME."""
        parser.add_argument("name", help="name of the pipeline or run")
        parser.add_argument("--detach", action="store_true", help="return at once; it goes on")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        pipeline = Pipeline.objects.filter(name=options["name"]).first()
        if pipeline is not None:
            self.follow(retry_pipeline(pipeline), options)
            return
        run = retry(get_run(options["name"]))
        if run.pipeline is not None:
            self.follow(run.pipeline, options)
        else:
            self.say(f"{run.name}: {run.status}")
