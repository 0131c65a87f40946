"""The history of what served."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from adapters.models.evaluation import Evaluation
from adapters.models.stack import Stack


class Promotion(models.Model):
    """One switch of the champion, and the figure it was made on."""

    stack = models.ForeignKey(Stack, models.PROTECT, related_name="promotions")
    previous = models.ForeignKey(Stack, models.PROTECT, null=True, blank=True, related_name="+")
    evaluation = models.ForeignKey(
        Evaluation, models.PROTECT, null=True, blank=True, related_name="+", help_text="What later ones are held to."
    )
    reason = models.TextField(blank=True)
    is_rollback = models.BooleanField(default=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="If a user did it.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.stack} at {self.created_at:%Y-%m-%d %H:%M}"
