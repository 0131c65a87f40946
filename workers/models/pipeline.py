"""Runs that depend on each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models

from datasets_app.validators import validate_name
from workers.states import Status

if TYPE_CHECKING:
    from workers.models.run import Run


class Pipeline(models.Model):
    """Runs in order of their `step`: each starts when the one before has succeeded."""

    name = models.CharField(max_length=64, unique=True, validators=[validate_name])
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @property
    def steps(self) -> list[Run]:
        """The newest run of each step, in order."""
        newest = {run.step: run for run in self.runs.order_by("step", "id")}
        return list(newest.values())

    @property
    def status(self) -> Status:
        """Derived from its runs: the first that has not succeeded speaks for the whole."""
        for run in self.steps:
            if run.status != Status.SUCCEEDED:
                return Status(run.status) if run.is_over or run.step == 0 else Status.RUNNING
        return Status.SUCCEEDED
