"""Prepared datasets."""

from __future__ import annotations

from django.contrib import admin

from datasets_app.admin.base import ReadOnlyAdmin, display, link, pretty, short
from datasets_app.models import PreparedDataset


@admin.register(PreparedDataset)
class PreparedDatasetAdmin(ReadOnlyAdmin):
    """Made by `preprocess` runs, and immutable."""

    list_display = ["__str__", "of", "content", "created_at"]
    list_select_related = ["routing_dataset", "source_dataset"]
    search_fields = ["routing_dataset__name", "source_dataset__name", "digest"]
    fields = ["of", "base", "path", "content", "figures", "created_at"]
    readonly_fields = fields

    @display(description="dataset")
    def of(self, obj: PreparedDataset) -> str:
        """What it was made of."""
        return link(obj.dataset)

    @display(description="content")
    def content(self, obj: PreparedDataset) -> str:
        """The digest."""
        return short(obj.digest)

    @display(description="statistics")
    def figures(self, obj: PreparedDataset) -> str:
        """Rows, tokens, pixels."""
        return pretty(obj.stats)
