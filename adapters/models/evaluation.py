"""Figures, each with its uncertainty."""

from __future__ import annotations

from django.db import models

from adapters.models.stack import Stack
from adapters.models.version import AdapterVersion
from datasets_app.fields import DataPathField


class Evaluations(models.Manager["Evaluation"]):
    """Rows without their reports, some MB each, which are read when they are asked for."""

    def get_queryset(self) -> models.QuerySet[Evaluation]:
        """All of them."""
        return super().get_queryset().defer("report")


class Evaluation(models.Model):
    """How one version, alone or within a stack, did on one held-out split."""

    version = models.ForeignKey(AdapterVersion, models.PROTECT, related_name="evaluations")
    stack = models.ForeignKey(
        Stack, models.PROTECT, null=True, blank=True, related_name="evaluations", help_text="Empty: evaluated alone."
    )
    dataset_name = models.CharField(max_length=64)
    dataset_digest = models.CharField(max_length=71)
    samples = models.PositiveIntegerField()
    accuracy = models.FloatField(help_text="Router: routed right. Expert: exact answers.")
    ci_low = models.FloatField(help_text="Lower end of the 95% Wilson interval.")
    ci_high = models.FloatField(help_text="Upper end of the 95% Wilson interval.")
    report = models.JSONField(help_text="Everything measured.")
    path = DataPathField(max_length=1024, help_text="Folder with report.json and report.html.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = Evaluations()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.version} on {self.dataset_name}: {self.accuracy:.1%} ({self.ci_low:.1%}-{self.ci_high:.1%})"
