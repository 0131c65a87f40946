"""`promote NAME`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from adapters.models import AdapterVersion
from adapters.selectors import get_adapter
from datasets_app.errors import InputError
from inference.services import promote
from workers.management.serving import ServingCommand
from workers.models import Run


class Command(ServingCommand):
    """Put a router live."""

    help = "Put a router live, with the current version of each expert: the router itself or the train run's."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME."""
        parser.add_argument("name", help="a train run, or a router for its current version")
        parser.add_argument("--force", action="store_true", help="without the comparison of evaluations")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        version = find_version(options["name"])
        stack = promote(version, force=options["force"])
        self.say(f"{version} is live: {stack.digest}")


def find_version(name: str) -> AdapterVersion:
    """What the newest train run called `name` made, or else the current version of the router `name`."""
    run = Run.objects.filter(name=name, adapter_version__isnull=False).first()
    version = run.adapter_version if run else get_adapter(name).current
    if version is None:
        raise InputError(f"Adapter {name!r} has no version yet.")
    return version
