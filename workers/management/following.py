"""What the commands share that wait for runs and pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError, CommandParser

from adapters.models import AdapterVersion
from datasets_app.management.base import InputCommand
from workers.management.watch import watch, watch_pipeline
from workers.models import Pipeline, Run
from workers.services.money import estimate, together
from workers.services.sizes import sizes_of
from workers.states import Status

EXIT_INTERRUPTED = 130


class FollowCommand(InputCommand):
    """Waits for what it has launched. Exit code 1 and the reason if that does not succeed."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Whether to wait."""
        parser.add_argument("--detach", action="store_true", help="return at once; what was launched goes on")

    def follow_run(self, run: Run, *, detach: bool) -> Run | None:
        """Watch the run until it is over; None if nobody waits for it."""
        if not run.is_over:
            self.note(f"Expected on {run.backend!r}: {estimate(run.kind, run.backend, run.time_limit)}.")
        if detach:
            self.say(f"{run.name}: {run.status}")
            return None
        if run.is_over:
            self.say(f"{run.name}: reused")
            return run
        with leaving(f"Run {run.name!r} goes on; `cancel {run.name}` ends it."):
            watch([run])
        if run.status != Status.SUCCEEDED:
            raise CommandError(f"Run {run.name!r} {run.status}: {run.error or 'no reason given'}", returncode=1)
        self.say(f"{run.name}: {run.status}")
        return run

    def caution(self, version: AdapterVersion | None) -> None:
        """Say what the version is served with, where its files do not."""
        if version is not None and version.note:
            self.note(version.note)

    def follow_pipeline(self, pipeline: Pipeline, *, detach: bool) -> None:
        """Watch the pipeline until there is a verdict, and print that."""
        ahead = [estimate(run.kind, run.backend, run.time_limit) for run in pipeline.steps if not run.is_over]
        if ahead:
            self.note(f"Expected: {together(ahead)}.")
        for size in sizes_of(pipeline):
            self.note(f"{size}.")
        if detach:
            self.say(f"{pipeline.name}: {pipeline.status.value}")
            return
        with leaving(f"Pipeline {pipeline.name!r} goes on; `cancel {pipeline.name}` ends it."):
            watch_pipeline(pipeline)
        for run in pipeline.steps:
            reused = f" (reused from {run.reused_from})" if run.reused_from else ""
            self.say(f"{run.name}: {run.status}{reused}")
            self.caution(run.adapter_version)
        if pipeline.outcome != Status.SUCCEEDED:
            raise CommandError(f"Pipeline {pipeline.name!r} {pipeline.outcome}: {pipeline.verdict}", returncode=1)
        self.say(pipeline.verdict)


@contextmanager
def leaving(words: str) -> Iterator[None]:
    """Ctrl-C ends the command and nothing else, which `words` say."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise CommandError(words, returncode=EXIT_INTERRUPTED) from error
