"""Names that point at a stack."""

from __future__ import annotations

from django.db import models

from adapters.models.stack import Stack


class Alias(models.Model):
    """`champion` serves; `challenger` wants to. An alias moves; what it points at never changes."""

    class Name(models.TextChoices):
        CHAMPION = "champion"
        CHALLENGER = "challenger"

    name = models.CharField(max_length=16, choices=Name, unique=True)
    stack = models.ForeignKey(Stack, models.PROTECT, related_name="aliases")
    moved_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "aliases"

    def __str__(self) -> str:
        return f"{self.name} → {self.stack}"
