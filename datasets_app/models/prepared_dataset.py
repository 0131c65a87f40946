"""What training and evaluation read."""

from __future__ import annotations

from django.db import models

from datasets_app.fields import DataPathField
from datasets_app.models.routing_dataset import RoutingDataset
from datasets_app.models.source_dataset import SourceDataset


class PreparedDataset(models.Model):
    """A validated, converted, memory-mapped form of one routing or source dataset, for one base model."""

    routing_dataset = models.ForeignKey(RoutingDataset, models.PROTECT, null=True, blank=True, related_name="prepared")
    source_dataset = models.ForeignKey(SourceDataset, models.PROTECT, null=True, blank=True, related_name="prepared")
    base = models.CharField(max_length=71, help_text="Fingerprint of the base model it was prepared for.")
    path = DataPathField(max_length=1024, unique=True)
    digest = models.CharField(max_length=71)
    stats = models.JSONField(help_text="Rows a split, token counts, pixel budget.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(routing_dataset__isnull=False, source_dataset__isnull=True)
                | models.Q(routing_dataset__isnull=True, source_dataset__isnull=False),
                name="prepared_from_exactly_one_dataset",
            )
        ]

    def __str__(self) -> str:
        return f"{self.dataset} (prepared)"

    @property
    def dataset(self) -> RoutingDataset | SourceDataset:
        """What it was prepared from."""
        dataset = self.routing_dataset or self.source_dataset
        assert dataset is not None  # noqa: S101 - the check constraint
        return dataset
