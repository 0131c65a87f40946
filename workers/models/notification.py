"""Deliveries of alerts."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from workers.models.alert import Alert


class Notification(models.Model):
    """An alert on its way to one channel: the row is the outbox, and is sent until it is taken or tries run out."""

    class Channel(models.TextChoices):
        EMAIL = "email"
        WEBHOOK = "webhook"

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="notifications")
    channel = models.CharField(max_length=8, choices=Channel)
    tries = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["alert", "channel"], name="notification_once_per_channel"),
        ]

    def __str__(self) -> str:
        return f"{self.alert} ({self.channel})"
