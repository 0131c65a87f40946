"""`preprocess --dataset-name X`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from workers.management.base import RunCommand
from workers.models import Run


class Command(RunCommand):
    """Preprocess a dataset."""

    help = "Validate a routing or source dataset and convert it to what training reads."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which dataset."""
        super().add_arguments(parser)
        parser.add_argument("--dataset-name", required=True, help="routing or source dataset")
        parser.add_argument("--max-pixels", type=int, help="most pixels of a screenshot (default: the base's)")
        parser.add_argument("--run-name", help="default: made up")

    def handle(self, *args: Any, **options: Any) -> None:
        """Launch."""
        params = {"dataset": options["dataset_name"], "max_pixels": options["max_pixels"]}
        self.launch(Run.Kind.PREPROCESS, params, options["run_name"], options)
