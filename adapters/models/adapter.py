"""A named LoRA."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models

from adapters.models.base_model import BaseModel
from datasets_app.models import SourceDataset
from datasets_app.validators import validate_name

NONE_LABEL = "none"


class Adapter(models.Model):
    """A named LoRA on a base model; the name of an expert is the label that a router may answer."""

    class Kind(models.TextChoices):
        EXPERT = "expert"
        ROUTER = "router"

    name = models.CharField(max_length=64, unique=True, validators=[validate_name])
    kind = models.CharField(max_length=8, choices=Kind)
    base = models.ForeignKey(BaseModel, models.PROTECT, related_name="adapters")
    source = models.ForeignKey(
        SourceDataset,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="adapters",
        help_text="The expert's own training examples; routing examples are drawn from them.",
    )
    current = models.ForeignKey(
        "adapters.AdapterVersion",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="The version that a new stack takes.",
    )
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["kind", "name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.name == NONE_LABEL:
            raise ValidationError({"name": f"{NONE_LABEL!r} is the router's answer for no expert."})
        if self.current is not None and self.current.adapter_id != self.pk:
            raise ValidationError({"current": "This version belongs to another adapter."})
