"""An expert's own training examples."""

from __future__ import annotations

from django.db import models

from datasets_app.fields import DataPathField
from datasets_app.validators import validate_name


class SourceDataset(models.Model):
    """Screenshots and conversations in a folder, from which routing examples are drawn.

    The folder stays where its owner keeps it, or is a copy of one on a volume, its `origin`; `digest` is what it held
    when it was registered.
    """

    name = models.CharField(max_length=64, unique=True, validators=[validate_name])
    path = DataPathField(
        max_length=1024,
        help_text="Folder with one or more .jsonl files and their images, on the server or as volume:path on Modal.",
    )
    format = models.CharField(max_length=32, default="llava")
    origin = models.CharField(max_length=1200, blank=True, editable=False, help_text="volume:path it was fetched from.")
    digest = models.CharField(max_length=71, editable=False)
    rows = models.PositiveIntegerField(editable=False)
    screens = models.PositiveIntegerField(
        null=True, editable=False, help_text="Different screens; unknown where it was registered by an earlier version."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
