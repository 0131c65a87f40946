"""`promote NAME`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from adapters.models import AdapterVersion, Promotion
from adapters.selectors import get_adapter
from datasets_app.errors import InputError
from inference.services import promote
from workers.management.serving import ServingCommand, operator
from workers.models import Run


class Command(ServingCommand):
    """Put a router live."""

    help = "Put a router live, with the current version of each expert: the router itself or the train run's."

    def add_arguments(self, parser: CommandParser) -> None:
        """NAME."""
        parser.add_argument("name", help="a train run, or a router for its current version")
        parser.add_argument("--drop", nargs="+", metavar="CLASS", default=[], help="classes that serve and may be lost")
        parser.add_argument("--force", metavar="REASON", help="without the comparison of evaluations; is recorded")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service, and print what it was decided on."""
        version = find_version(options["name"])
        force = options["force"]
        reason = f"{force} ({operator()}, on the command line)" if force and force.strip() else force
        stack = promote(version, drop=options["drop"], force_reason=reason)
        self.say(f"{version} is live: {stack.digest}")
        made = Promotion.objects.filter(stack=stack).select_related("evaluation__version__adapter").first()
        if made is not None:
            self.say(str(made.evaluation or "It was never evaluated."))
            self.say(made.reason)


def find_version(name: str) -> AdapterVersion:
    """What the newest train run called `name` made, or else the current version of the router `name`."""
    run = Run.objects.filter(name=name, adapter_version__isnull=False).first()
    version = run.adapter_version if run else get_adapter(name).current
    if version is None:
        raise InputError(f"Adapter {name!r} has no version yet.")
    return version
