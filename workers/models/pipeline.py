"""Runs that depend on each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

from adapters.models import Stack
from datasets_app.validators import validate_name
from workers.states import Status

if TYPE_CHECKING:
    from workers.models.run import Run


class Pipeline(models.Model):
    """Runs in order of their `step`: each starts when the one before has succeeded."""

    class Kind(models.TextChoices):
        ROUTER = "router"
        EXPERT = "expert"
        ADD_EXPERT = "add_expert"
        RETRAIN_ROUTER = "retrain_router"
        REEVALUATE = "reevaluate"

    class Live(models.TextChoices):
        IF_BETTER = "if-better"
        NEVER = "never"

    name = models.CharField(max_length=64, unique=True, validators=[validate_name])
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.ROUTER)
    live = models.CharField(max_length=16, choices=Live, default=Live.NEVER, help_text="When its router goes live.")
    wish = models.JSONField(default=dict, help_text="What was asked for.")
    outcome = models.CharField(max_length=16, blank=True, help_text="How it ended: empty while it goes on.")
    verdict = models.TextField(blank=True, help_text="The outcome in words.")
    promoted = models.ForeignKey(
        Stack, models.PROTECT, null=True, blank=True, related_name="+", help_text="What it put live."
    )
    version = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True, help_text="Until then one worker concludes it.")
    trouble = models.TextField(blank=True, help_text="What last kept the platform from concluding it.")
    failing_since = models.DateTimeField(
        null=True, blank=True, help_text="Since when each try to conclude it has failed."
    )
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["outcome"], name="pipeline_outcome"),
            models.Index(fields=["-created_at"], name="pipeline_newest"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def steps(self) -> list[Run]:
        """The newest run of each step, in order."""
        newest = {run.step: run for run in sorted(self.runs.all(), key=lambda run: (run.step, run.pk))}
        return list(newest.values())

    @property
    def status(self) -> Status:
        """The outcome, or how far its runs are: the first that has not succeeded speaks for the whole."""
        if self.outcome:
            return Status(self.outcome)
        for run in self.steps:
            if run.status != Status.SUCCEEDED:
                return Status(run.status) if run.is_over or run.step == 0 else Status.RUNNING
        return Status.SUCCEEDED if self.kind in (self.Kind.ROUTER, self.Kind.EXPERT) else Status.FINALIZING

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody has asked it to end."""
        return self.cancel_requested_at is not None

    @property
    def is_over(self) -> bool:
        """Whether there is an outcome; a retry opens it again."""
        return bool(self.outcome)
