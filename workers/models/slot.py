"""The slots of the schedule."""

from __future__ import annotations

from django.db import models

from workers.models.pipeline import Pipeline


class Slot(models.Model):
    """One time at which a schedule was due: taken once, whoever finds it."""

    schedule = models.CharField(max_length=200, help_text="Name of the periodic task.")
    at = models.DateTimeField()
    pipeline = models.ForeignKey(
        Pipeline, models.SET_NULL, null=True, blank=True, related_name="slots", help_text="Empty: nothing was due."
    )
    note = models.TextField(blank=True, help_text="Why there was nothing to do.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at"]
        constraints = [models.UniqueConstraint(fields=["schedule", "at"], name="slot_once_per_schedule")]

    def __str__(self) -> str:
        return f"{self.schedule} at {self.at:%Y-%m-%d %H:%M}"
