"""What the commands share that launch runs."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from datasets_app.management.base import InputCommand
from workers.models import Run
from workers.services import launch, wait
from workers.states import Status

EXIT_INTERRUPTED = 130


class RunCommand(InputCommand):
    """Launches one run and watches it. Exit code 1 and the run's error if it does not succeed."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to run and whether to wait."""
        parser.add_argument("--backend", help="compute backend (default: the COMPUTE_DEFAULT setting)")
        parser.add_argument("--detach", action="store_true", help="return at once; the run goes on")

    def launch(self, kind: str, params: dict[str, Any], name: str | None, options: dict[str, Any]) -> Run | None:
        """Launch and watch the run; None if nobody waits for it."""
        run = launch(kind, params, name=name, backend=options["backend"])
        if options["detach"]:
            self.say(f"{run.name}: {run.status}")
            return None
        if run.is_over:
            self.say(f"{run.name}: reused")
            return run
        self._watch(run)
        if run.status != Status.SUCCEEDED:
            raise CommandError(f"Run {run.name!r} {run.status}: {run.error or 'no reason given'}", returncode=1)
        self.say(f"{run.name}: {run.status}")
        return run

    def _watch(self, run: Run) -> None:
        with tqdm(desc=run.name, file=sys.stderr, disable=None, bar_format=BAR) as bar:
            try:
                wait(run, lambda run: show(run, bar))
            except KeyboardInterrupt as error:
                hint = f"Run {run.name!r} goes on; cancel_run {run.name} ends it."
                raise CommandError(hint, returncode=EXIT_INTERRUPTED) from error


BAR = "{desc}: {percentage:3.0f}%|{bar:24}| {postfix} [{elapsed}]"


def show(run: Run, bar: tqdm[Any]) -> None:
    """Bring the bar to where the run is."""
    progress = run.progress
    metrics = " ".join(f"{name} {value:.3g}" for name, value in progress.get("metrics", {}).items())
    bar.total = progress.get("total") or 1
    bar.n = bar.total if run.status == Status.SUCCEEDED else min(progress.get("done", 0), bar.total)
    bar.set_postfix_str(" ".join(word for word in (run.status, progress.get("step", ""), metrics) if word))
