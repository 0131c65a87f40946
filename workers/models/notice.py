"""What people are told."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Notice(models.Model):
    """One message on one channel: the row is the outbox, and is sent until somebody takes it or patience ends."""

    class Channel(models.TextChoices):
        EMAIL = "email"
        WEBHOOK = "webhook"

    key = models.CharField(max_length=128, help_text="What happened; told once on each channel.")
    channel = models.CharField(max_length=8, choices=Channel)
    subject = models.CharField(max_length=200)
    payload = models.JSONField(default=dict)
    tries = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["key", "channel"], name="notice_once_per_channel")]

    def __str__(self) -> str:
        return f"{self.subject} ({self.channel})"
