"""The inbox of alerts and ends of pipelines."""

from __future__ import annotations

from django.db import models


class Alert(models.Model):
    """An alert, or the end of a pipeline: one row each, whether or not any channel is configured."""

    class Level(models.TextChoices):
        INFO = "info"
        ALERT = "alert"

    key = models.CharField(max_length=128, unique=True, help_text="What happened; recorded once.")
    level = models.CharField(max_length=8, choices=Level)
    text = models.TextField()
    details = models.JSONField(default=dict, help_text="Further facts, for the webhook.")
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True, help_text="Empty: unread.")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["read_at", "level"], name="alert_unread")]

    def __str__(self) -> str:
        return self.subject

    @property
    def subject(self) -> str:
        """The first line, no longer than a mail's subject should be."""
        return self.text.splitlines()[0][:200] if self.text.strip() else self.key
