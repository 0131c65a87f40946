"""An expert's own training examples."""

from __future__ import annotations

from django.db import models

from datasets_app.validators import validate_name


class SourceDataset(models.Model):
    """Screenshots and conversations in a folder, from which routing examples are drawn.

    The folder stays where its owner keeps it; `digest` is what it held when it was registered.
    """

    name = models.CharField(max_length=64, unique=True, validators=[validate_name])
    path = models.CharField(max_length=1024, help_text="Folder with one or more .jsonl files and their images.")
    format = models.CharField(max_length=32, default="llava")
    digest = models.CharField(max_length=71, editable=False)
    rows = models.PositiveIntegerField(editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
