"""What the commands share that launch pipelines."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from typing import Any

from django.core.management.base import CommandParser

from datasets_app.strict_json import json_object
from workers.management.following import FollowCommand
from workers.models import Pipeline
from workers.recipes.sizing import DEFAULT_WORDS


class PipelineCommand(FollowCommand):
    """Launches a pipeline and waits for its verdict."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Its name, where to run, and whether to wait."""
        super().add_arguments(parser)
        parser.add_argument("--pipeline", metavar="NAME", help="name of the pipeline (default: made up)")
        parser.add_argument("--backend", help="compute backend of its steps (default: the COMPUTE_DEFAULT setting)")

    def add_router_arguments(self, parser: CommandParser) -> None:
        """What may differ from the serving router, and what happens at the end."""
        PipelineCommand.add_arguments(self, parser)
        parser.add_argument("--live", choices=Pipeline.Live.values, default=Pipeline.Live.IF_BETTER.value)
        parser.add_argument("--margin", type=float, help="no class may fall by so much, as 0.05 (default: the setting)")
        parser.add_argument("--floor", type=float, help="recall that a new class must exceed (default: the setting)")
        parser.add_argument("--drop", nargs="+", metavar="CLASS", help="classes that serve and are to be removed")
        parser.add_argument("--negatives", nargs="+", metavar="NAME", help="sources of the label none")
        parser.add_argument(
            "--samples-per-class", type=int, help=f"default: as for the serving router, or {DEFAULT_WORDS}"
        )
        parser.add_argument("--seed", type=int, help="default: as for the serving router")
        parser.add_argument(
            "--max-pixels",
            type=int,
            help="of a screenshot that the router sees; fewer cost less (default: as for the serving router)",
        )
        parser.add_argument(
            "--train", type=json_object, metavar="JSON", help="fields of the recipe: '{\"max_steps\": 9}'"
        )

        parser.add_argument(
            "--activated",
            action=BooleanOptionalAction,
            help="train an activated LoRA, or a plain one (default: as the serving router)",
        )

    def router_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of `add_router_arguments`, for the service."""
        names = (
            "live",
            "margin",
            "floor",
            "drop",
            "negatives",
            "samples_per_class",
            "seed",
            "max_pixels",
            "train",
            "pipeline",
            "backend",
        )
        given = {key: options[key] for key in names}
        if options["activated"] is not None:
            given["train"] = {**(given["train"] or {}), "activated": options["activated"]}
        return given
