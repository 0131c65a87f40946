"""What the commands share that launch runs."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from datasets_app.management.base import InputCommand
from workers.kinds import HERE
from workers.management.watch import watch
from workers.models import Run
from workers.services import launch
from workers.services.money import estimate
from workers.states import Status

EXIT_INTERRUPTED = 130


class RunCommand(InputCommand):
    """Launches one run and watches it. Exit code 1 and the run's error if it does not succeed."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to run and whether to wait."""
        parser.add_argument("--backend", help="compute backend (default: the COMPUTE_DEFAULT setting)")
        parser.add_argument("--time-limit", type=int, metavar="SECONDS", help="from its first launch to its end")
        parser.add_argument("--detach", action="store_true", help="return at once; the run goes on")

    def launch(self, kind: str, params: dict[str, Any], name: str | None, options: dict[str, Any]) -> Run | None:
        """Launch and watch the run; None if nobody waits for it."""
        backend = HERE.get(kind) or options["backend"] or settings.COMPUTE_DEFAULT
        run = launch(kind, params, name=name, backend=backend, time_limit=options.get("time_limit"))
        if not run.is_over:
            self.stderr.write(f"Expected on {backend!r}: {estimate(kind, backend, run.time_limit)}.")
        if options["detach"]:
            self.say(f"{run.name}: {run.status}")
            return None
        if run.is_over:
            self.say(f"{run.name}: reused")
            return run
        try:
            watch([run])
        except KeyboardInterrupt as error:
            hint = f"Run {run.name!r} goes on; cancel_run {run.name} ends it."
            raise CommandError(hint, returncode=EXIT_INTERRUPTED) from error
        if run.status != Status.SUCCEEDED:
            raise CommandError(f"Run {run.name!r} {run.status}: {run.error or 'no reason given'}", returncode=1)
        self.say(f"{run.name}: {run.status}")
        return run
