"""One launch of a run on a compute backend."""

from __future__ import annotations

import uuid

from django.db import models

from workers.models.run import Run


def new_launch_key() -> str:
    """128 random bits in hex."""
    return uuid.uuid4().hex


class Attempt(models.Model):
    """One launch. `launch_key` names its outputs and is what the job itself claims before it does any work."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    launch_key = models.CharField(max_length=32, unique=True, default=new_launch_key)
    backend = models.CharField(max_length=32, blank=True)
    slot = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Its place on the backend while it runs.")
    handle = models.CharField(max_length=255, blank=True, help_text="The backend's own name for the job.")
    silences = models.PositiveIntegerField(default=0, help_text="How often in a row the backend did not answer.")
    cancel_due_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When to tell the backend again that nobody waits for the job; it did not listen.",
    )
    outcome = models.CharField(max_length=16, blank=True, help_text="How it ended: empty while it goes on.")
    error = models.TextField(blank=True)
    began_at = models.DateTimeField(null=True, blank=True, help_text="When a machine began to work on it.")
    seconds = models.FloatField(default=0, help_text="For how long a machine was held.")
    machine = models.CharField(max_length=64, blank=True, help_text="What it was, as the job found it.")
    cost = models.DecimalField(max_digits=10, decimal_places=4, default=0, help_text="Dollars.")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["run", "number"]
        indexes = [
            models.Index(fields=["ended_at"], name="attempt_ended"),
            models.Index(fields=["cancel_due_at"], name="attempt_cancel_due"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["run", "number"], name="attempt_number_once_per_run"),
            # The limit of jobs at once, kept by the database whatever many processes launch.
            models.UniqueConstraint(fields=["backend", "slot"], name="attempt_slot_taken_once"),
        ]

    def __str__(self) -> str:
        return f"{self.run.name} attempt {self.number}"
