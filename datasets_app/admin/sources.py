"""Source datasets."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from datasets_app.admin.base import ServiceAdmin, display, links, short
from datasets_app.admin.filters import one_of
from datasets_app.formats import SOURCE_FORMATS
from datasets_app.models import SourceDataset
from datasets_app.services import register_source


@admin.register(SourceDataset)
class SourceDatasetAdmin(ServiceAdmin):
    """Registering a folder reads every row of it; saving again registers it anew."""

    refusal_fields = {"": "path"}
    list_display = ["name", "rows", "screens", "format", "content", "updated_at"]
    list_filter = [one_of("format", lambda: SOURCE_FORMATS)]
    search_fields = ["name", "path"]
    fields = ["name", "path", "origin", "format", "rows", "screens", "content", "routing", "created_at", "updated_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: SourceDataset | None = None) -> list[str]:
        """What the files say; a name stays."""
        facts = ["origin", "rows", "screens", "content", "routing", "created_at", "updated_at"]
        return [*facts, "name"] if obj else facts

    def get_fields(self, request: HttpRequest, obj: SourceDataset | None = None) -> list[str]:
        """A new one has no facts yet."""
        return self.fields if obj else ["name", "path", "format"]

    def save_model(self, request: HttpRequest, obj: SourceDataset, form: Any, change: bool) -> None:
        """Call the service."""
        obj.pk = register_source(obj.name, obj.path, format=obj.format).pk
        obj.refresh_from_db()

    @display(description="content")
    def content(self, obj: SourceDataset) -> str:
        """The digest."""
        return short(obj.digest)

    @display(description="routing datasets")
    def routing(self, obj: SourceDataset) -> str:
        """Those that were drawn from it."""
        return links(obj.routing_datasets.all())
