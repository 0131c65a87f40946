"""`train --dataset-name X --run-name Y`."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandParser

from datasets_app.errors import InputError
from workers.management.base import RunCommand
from workers.models import Run

RECIPE_OPTIONS = {
    "max_steps": int,
    "learning_rate": float,
    "batch_size": int,
    "rank": int,
    "alpha": int,
    "seed": int,
}


class Command(RunCommand):
    """Train an adapter."""

    help = "Train a router on a routing dataset, or an expert on its source dataset."

    def add_arguments(self, parser: CommandParser) -> None:
        """Dataset, names and the recipe's fields."""
        super().add_arguments(parser)
        parser.add_argument("--dataset-name", required=True, help="preprocessed routing or source dataset")
        parser.add_argument("--run-name", help="default: made up")
        parser.add_argument("--adapter", default="router", help="adapter that is trained (default: %(default)s)")
        for field, kind in RECIPE_OPTIONS.items():
            parser.add_argument(f"--{field.replace('_', '-')}", type=kind)
        parser.add_argument(
            "--activated", action="store_true", help="an activated LoRA, which continues what the base has read"
        )
        parser.add_argument(
            "--set", action="append", default=[], metavar="FIELD=VALUE", help="any other field of the recipe"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Launch."""
        config = {field: options[field] for field in RECIPE_OPTIONS if options[field] is not None}
        config |= {"activated": True} if options["activated"] else {}
        config |= dict(assignment(text) for text in options["set"])
        params = {"dataset": options["dataset_name"], "adapter": options["adapter"], "config": config}
        run = self.launch(Run.Kind.TRAIN, params, options["run_name"], options)
        if run is not None and run.adapter_version is not None:
            self.say(f"{run.adapter_version}: {run.adapter_version.digest}")


def assignment(text: str) -> tuple[str, Any]:
    """`field=value`, in which the value is JSON or else text."""
    field, equals, value = text.partition("=")
    if not equals or not field.isidentifier():
        raise InputError(f"--set {text!r}: write FIELD=VALUE.")
    try:
        return field, json.loads(value)
    except ValueError:
        return field, value
