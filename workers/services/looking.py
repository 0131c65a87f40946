"""What is old and needed by nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property

from django.conf import settings
from django.db.models import Model
from django.utils import timezone

from workers.models import Pipeline, Run
from workers.services.evidence import datasets_in_use, evidence
from workers.states import TERMINAL


class Look:
    """A look at what nothing needs, as of `now`; what it has seen holds until the transaction ends."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or timezone.now()
        self.before = {name: self.now - timedelta(days=count) for name, count in settings.RETENTION_DAYS.items()}
        self.before["records"] = min(self.before.values())  # a record is the way to its files: it goes last

    @cached_property
    def datasets(self) -> dict[type[Model], set[int]]:
        """Routing and prepared datasets that go."""
        before = self.before["datasets"]
        return {
            model: set(model._default_manager.filter(created_at__lt=before).values_list("pk", flat=True)) - kept
            for model, kept in datasets_in_use(before).items()
        }

    @cached_property
    def pipelines(self) -> set[int]:
        """Those that go, with all of their runs."""
        over = Pipeline.objects.exclude(outcome="").filter(finished_at__lt=self.before["records"], promoted=None)
        kept = {pipeline for run, pipeline in self.pipeline_of.items() if run not in self._spare}
        return set(over.values_list("pk", flat=True)) - kept

    @cached_property
    def runs(self) -> set[int]:
        """Those that go, alone or with their pipelines."""
        return {run for run in self._spare if run not in self.pipeline_of or self.pipeline_of[run] in self.pipelines}

    @cached_property
    def evaluations(self) -> set[int]:
        """Those that go with their runs: not what another run has reused."""
        held = list(Run.objects.filter(evaluation__isnull=False).order_by().values_list("pk", "evaluation"))
        kept = {evaluation for run, evaluation in held if run not in self.runs}
        return {evaluation for _, evaluation in held if evaluation not in kept}

    @cached_property
    def _spare(self) -> set[int]:
        """Old runs that are no evidence. One whose dataset is still there stays as well: it says how that was made."""
        old = Run.objects.filter(status__in=TERMINAL, finished_at__lt=self.before["records"])
        old = old.filter(routing_dataset=None, prepared_dataset=None).order_by()
        return set(old.values_list("pk", flat=True)) - set(evidence().values_list("pk", flat=True))

    @cached_property
    def pipeline_of(self) -> dict[int, int]:
        """The pipeline of each run that has one."""
        return dict(Run.objects.filter(pipeline__isnull=False).order_by().values_list("pk", "pipeline"))
