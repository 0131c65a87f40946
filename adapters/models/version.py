"""An immutable set of adapter files."""

from __future__ import annotations

from typing import Any

from django.db import models

from adapters.card import ASSUMED, GIVEN, AdapterCard, prefix_digest
from adapters.models.adapter import Adapter

NO_CARD = "Its files have no card: if it was trained otherwise, add them again with --card FILE (docs/data.md)."


class AdapterVersion(models.Model):
    """One version of an adapter; its files lie in the store under `digest` and never change."""

    adapter = models.ForeignKey(Adapter, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    digest = models.CharField(max_length=71, help_text="sha256 of the files; the store's key.")
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    card = models.JSONField(help_text="What it was trained with and is served with.")
    facts = models.JSONField(help_text="Rank, alpha and target modules, read from the files.")
    prefix = models.CharField(
        max_length=71, editable=False, help_text="Hash of what the base alone reads for it; empty for a plain LoRA."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["adapter", "number"], name="version_number_once_per_adapter"),
            models.UniqueConstraint(fields=["adapter", "digest"], name="version_digest_once_per_adapter"),
        ]

    def __str__(self) -> str:
        return f"{self.adapter.name} v{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """With the prefix of the card."""
        self.prefix = prefix_digest(self.card)
        super().save(*args, **kwargs)

    @property
    def note(self) -> str:
        """What it is served with, in a sentence, if its files brought no card that tells; else empty."""
        origin = self.card.get("lineage", {}).get("card")
        if origin not in (ASSUMED, GIVEN):
            return ""
        served = f"{self} is served with {AdapterCard.model_validate(self.card).in_words}."
        return f"{served} {NO_CARD}" if origin == ASSUMED else served

    @property
    def short_digest(self) -> str:
        """The first 12 hex digits, enough for people."""
        return self.digest.removeprefix("sha256:")[:12]
