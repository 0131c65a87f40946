"""`evaluate --run-name Y --dataset-name X`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from workers.management.base import RunCommand
from workers.models import Run


class Command(RunCommand):
    """Evaluate an adapter."""

    help = "Evaluate what a train run made, or an adapter's current version, on held-out samples."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whom, on what."""
        super().add_arguments(parser)
        subject = parser.add_mutually_exclusive_group(required=True)
        subject.add_argument("--run-name", help="train run whose adapter is evaluated")
        subject.add_argument("--adapter", help="adapter whose current version is evaluated")
        subject.add_argument("--serving", action="store_true", help="the router that serves, with its own experts")
        parser.add_argument("--dataset-name", required=True, help="preprocessed dataset")
        parser.add_argument("--stack", action="store_true", help="let the experts answer, too")
        parser.add_argument("--max-samples", type=int, help="default: all")

    def handle(self, *args: Any, **options: Any) -> None:
        """Launch."""
        params = {
            "run": options["run_name"],
            "adapter": options["adapter"],
            "serving": options["serving"],
            "dataset": options["dataset_name"],
            "stack": options["stack"],
            "max_samples": options["max_samples"],
        }
        run = self.launch(Run.Kind.EVALUATE, params, None, options)
        if run is not None and run.evaluation is not None:
            self.say(f"{run.evaluation}\n{run.evaluation.path}/report.html")
