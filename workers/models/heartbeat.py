"""Signs of life of processes that answer no requests."""

from __future__ import annotations

from django.db import models


class Heartbeat(models.Model):
    """When a process of this role was last seen alive."""

    role = models.CharField(max_length=16, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return self.role
