"""What was told, and when the schedule was due."""

from __future__ import annotations

from django.contrib import admin

from datasets_app.admin.base import ReadOnlyAdmin, display, link
from datasets_app.admin.filters import typed
from workers.models import Notice, Slot


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    """Messages by e-mail and webhook, and whether they were taken."""

    list_display = ["subject", "channel", "sent_at", "tries", "error", "created_at"]
    list_filter = ["channel"]
    search_fields = ["subject"]
    fields = ["key", *list_display, "due_at"]
    readonly_fields = fields


@admin.register(Slot)
class SlotAdmin(ReadOnlyAdmin):
    """Each time at which a schedule was due."""

    list_display = ["schedule", "at", "pipeline_link", "note"]
    list_filter = [typed("schedule")]
    list_select_related = ["pipeline"]
    fields = list_display
    readonly_fields = fields

    @display(description="pipeline")
    def pipeline_link(self, obj: Slot) -> str:
        """What it launched."""
        return link(obj.pipeline)
