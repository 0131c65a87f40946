"""What the commands share that launch pipelines."""

from __future__ import annotations

import json
import time
from argparse import BooleanOptionalAction
from typing import Any

from django.core.management.base import CommandError, CommandParser

from datasets_app.management.base import InputCommand
from workers.management.base import EXIT_INTERRUPTED
from workers.management.watch import INTERVAL, watch
from workers.models import Pipeline
from workers.services.money import estimate, together
from workers.states import Status


class PipelineCommand(InputCommand):
    """Launches a pipeline and watches it. Exit code 1 and the verdict if it does not succeed."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Its name and whether to wait."""
        parser.add_argument("--pipeline", metavar="NAME", help="name of the pipeline (default: made up)")
        parser.add_argument("--detach", action="store_true", help="return at once; the pipeline goes on")

    def add_router_arguments(self, parser: CommandParser) -> None:
        """What may differ from the serving router, and what happens at the end."""
        PipelineCommand.add_arguments(self, parser)
        parser.add_argument("--live", choices=Pipeline.Live.values, default=Pipeline.Live.IF_BETTER.value)
        parser.add_argument("--negatives", nargs="+", metavar="NAME", help="sources of the label none")
        parser.add_argument("--samples-per-class", type=int, help="default: as for the serving router")
        parser.add_argument("--seed", type=int, help="default: as for the serving router")
        parser.add_argument(
            "--train", type=json.loads, metavar="JSON", help="fields of the recipe: '{\"max_steps\": 9}'"
        )

        parser.add_argument(
            "--activated",
            action=BooleanOptionalAction,
            help="train an activated LoRA, or a plain one (default: as the serving router)",
        )

    def router_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of `add_router_arguments`, for the service."""
        given = {key: options[key] for key in ("live", "negatives", "samples_per_class", "seed", "train", "pipeline")}
        if options["activated"] is not None:
            given["train"] = {**(given["train"] or {}), "activated": options["activated"]}
        return given

    def follow(self, pipeline: Pipeline, options: dict[str, Any]) -> None:
        """Watch the pipeline until there is a verdict, and print that."""
        ahead = [estimate(run.kind, run.backend, run.time_limit) for run in pipeline.steps if not run.is_over]
        if ahead:
            self.stderr.write(f"Expected: {together(ahead)}.")
        if options["detach"]:
            self.say(f"{pipeline.name}: {pipeline.status.value}")
            return
        try:
            watch(pipeline.steps)
            while not pipeline.is_over:
                time.sleep(INTERVAL)
                pipeline.refresh_from_db()
        except KeyboardInterrupt as error:
            raise CommandError(f"Pipeline {pipeline.name!r} goes on.", returncode=EXIT_INTERRUPTED) from error
        for run in pipeline.steps:
            reused = f" (reused from {run.reused_from})" if run.reused_from else ""
            self.say(f"{run.name}: {run.status}{reused}")
        if pipeline.outcome != Status.SUCCEEDED:
            raise CommandError(f"Pipeline {pipeline.name!r} {pipeline.outcome}: {pipeline.verdict}", returncode=1)
        self.say(pipeline.verdict)
