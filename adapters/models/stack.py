"""What is deployed together."""

from __future__ import annotations

from django.db import models

from adapters.models.version import AdapterVersion


class Stack(models.Model):
    """One router version and the expert versions that it may name, deployed atomically."""

    digest = models.CharField(max_length=71, unique=True)
    router = models.ForeignKey(AdapterVersion, models.PROTECT, related_name="routed_stacks")
    experts = models.ManyToManyField(AdapterVersion, related_name="stacks")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.router} stack {self.digest.removeprefix('sha256:')[:8]}"
