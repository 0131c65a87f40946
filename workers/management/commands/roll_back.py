"""`roll_back`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from adapters.selectors import get_stack
from inference.services import roll_back
from workers.management.serving import ServingCommand, operator


class Command(ServingCommand):
    """Put the stack live again that served before."""

    help = "Put the very stack live again that served before the present one. What serves since a rollback, stays."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which stack is to serve no more, and why."""
        parser.add_argument("--stack", metavar="DIGEST", help="the one that serves, though it does so since a rollback")
        parser.add_argument("--reason", default="By hand", help="is recorded with the switch")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the service."""
        stack = get_stack(options["stack"]) if options["stack"] else None
        stack = roll_back(stack, reason=f"{options['reason']} ({operator()}, on the command line)")
        self.say(f"{stack.router} is live again: {stack.digest}")
