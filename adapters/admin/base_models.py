"""Base models."""

from __future__ import annotations

from django.contrib import admin

from adapters.models import BaseModel
from datasets_app.admin.base import ReadOnlyAdmin, display, links, short


@admin.register(BaseModel)
class BaseModelAdmin(ReadOnlyAdmin):
    """Registered from the settings on first use."""

    list_display = ["name", "path", "revision", "files", "created_at"]
    search_fields = ["name", "path", "fingerprint"]
    fields = ["name", "path", "revision", "fingerprint", "adapters_on_it", "created_at"]
    readonly_fields = fields

    @display(description="files")
    def files(self, obj: BaseModel) -> str:
        """The fingerprint."""
        return short(obj.fingerprint)

    @display(description="adapters")
    def adapters_on_it(self, obj: BaseModel) -> str:
        """Those that were trained on it."""
        return links(obj.adapters.all())
