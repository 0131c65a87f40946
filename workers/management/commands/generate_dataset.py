"""`generate_dataset --adapters ...`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from adapters.models import Adapter
from workers.management.base import RunCommand
from workers.models import Run
from workers.recipes.sizing import DEFAULT_WORDS


class Command(RunCommand):
    """Generate a routing dataset."""

    help = "Draw a routing dataset from the source datasets of experts."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which classes, how many of each."""
        super().add_arguments(parser)
        parser.add_argument("--adapters", nargs="+", metavar="NAME", help="experts (default: all with a source)")
        parser.add_argument("--negatives", nargs="+", default=[], metavar="NAME", help="sources of the label none")
        parser.add_argument("--samples-per-class", type=int, help=f"default: {DEFAULT_WORDS}")
        parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
        parser.add_argument("--name", help="of run and dataset (default: routing_YYYYMMDD_HHMMSS)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Launch."""
        params = {
            "adapters": options["adapters"] or routable(),
            "negatives": options["negatives"],
            "samples_per_class": options["samples_per_class"],
            "seed": options["seed"],
        }
        self.launch(Run.Kind.GENERATE_DATASET, params, options["name"], options)


def routable() -> list[str]:
    """The names of all experts that routing examples can be drawn for."""
    experts = Adapter.objects.filter(kind=Adapter.Kind.EXPERT, source__isnull=False)
    return list(experts.values_list("name", flat=True))
