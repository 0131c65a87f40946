"""The dataset that a router is trained on."""

from __future__ import annotations

from django.db import models

from datasets_app.fields import DataPathField
from datasets_app.formats.routing import FORMAT
from datasets_app.models.source_dataset import SourceDataset
from datasets_app.validators import validate_name


class RoutingDataset(models.Model):
    """A generated `routing_YYYYMMDD_HHMMSS/` folder: immutable, addressed by `digest`."""

    format = FORMAT

    name = models.CharField(max_length=64, unique=True, validators=[validate_name])
    path = DataPathField(max_length=1024)
    digest = models.CharField(max_length=71)
    sources = models.ManyToManyField(SourceDataset, related_name="routing_datasets")
    metadata = models.JSONField(help_text="The folder's metadata.json: counts, seed, template, label map.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name
