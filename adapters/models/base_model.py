"""The frozen model that all adapters share."""

from __future__ import annotations

from django.db import models

from datasets_app.validators import validate_name


class BaseModel(models.Model):
    """A base model: a local folder, or a hub id at a pinned revision."""

    name = models.CharField(max_length=64, unique=True, validators=[validate_name])
    path = models.CharField(max_length=1024, help_text="Local folder or hub id, as Qwen/Qwen3-VL-8B-Instruct.")
    revision = models.CharField(max_length=64, blank=True, help_text="Commit of the hub repository.")
    fingerprint = models.CharField(max_length=71, unique=True, help_text="Hash of its files.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
