"""`add_expert NAME --source PATH [--adapter PATH]`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from adapters.selectors import get_adapter
from datasets_app.places import is_place
from workers.management.cards import add_card, read_card
from workers.management.pipelines import PipelineCommand
from workers.services import add_expert


class Command(PipelineCommand):
    """Add an expert to what serves."""

    help = (
        "Add an expert: check and register its files, train a router that knows it, too, evaluate that and the "
        "serving one on the same samples, and put the better one live."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME, its files, and what differs from the serving router."""
        parser.add_argument("name", help="name of the expert: the label that the router will answer")
        parser.add_argument(
            "--source", required=True, help="its source dataset: a folder, volume:path on Modal, or a name"
        )
        parser.add_argument(
            "--adapter", help="folder with its adapter files, or volume:path on Modal (default: it is trained first)"
        )
        add_card(parser)
        self.add_router_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        name, files = options["name"], {"source": options["source"], "adapter": options["adapter"]}
        pipeline = add_expert(name, **files, card=read_card(options["card"]), **self.router_options(options))
        if options["adapter"] and not is_place(options["adapter"]):
            self.caution(get_adapter(name).current)
        self.follow_pipeline(pipeline, detach=options["detach"])
