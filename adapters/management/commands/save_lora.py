"""`save_lora NAME PATH`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from adapters.models import Adapter
from adapters.services import add_version, register_adapter
from datasets_app.management.base import InputCommand
from datasets_app.selectors import get_source


class Command(InputCommand):
    """Store adapter files."""

    help = "Register an adapter and store the files in PATH (or its final/) as its next version."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME, PATH, kind and source."""
        parser.add_argument("name", help="name of the adapter: the label that a router may answer")
        parser.add_argument("path", help="folder with adapter_config.json and adapter_model.safetensors")
        parser.add_argument("--kind", choices=Adapter.Kind.values, default=Adapter.Kind.EXPERT.value)
        parser.add_argument("--source", help="source dataset that routing examples are drawn from")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the services."""
        source = get_source(options["source"]) if options["source"] else None
        adapter = register_adapter(options["name"], kind=options["kind"], source=source)
        version = add_version(adapter, options["path"])
        self.say(f"{version}: {version.digest}")
