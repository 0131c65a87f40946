"""What the commands share that change what serves."""

from __future__ import annotations

import getpass
import os
from typing import Any

from django.core.management.base import CommandError

from datasets_app.management.base import InputCommand
from inference.engines.base import EngineError

EXIT_ENGINE = 1


class ServingCommand(InputCommand):
    """An engine that does not load the stack is exit code 1 and its one sentence on stderr."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; nothing has changed where it fails."""
        try:
            return super().execute(*args, **options)
        except EngineError as error:
            raise CommandError(str(error), returncode=EXIT_ENGINE) from error


def operator() -> str:
    """Who runs the command, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"
