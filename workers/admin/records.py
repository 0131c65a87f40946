"""What people were told, and when the schedule was due."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from datasets_app.admin.base import ReadOnlyAdmin, action, display, link, pretty
from datasets_app.admin.filters import CREATED, typed
from workers.models import Alert, Notification, Slot
from workers.services import mark_read


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """Alerts and ends of pipelines; the header counts the unread ones."""

    list_display = ["subject", "level_label", "created_at", "read_at"]
    list_filter = ["level", ("read_at", admin.EmptyFieldListFilter), CREATED]
    search_fields = ["text"]
    actions = ["mark_read"]
    fields = ["text", "level_label", "details_text", "created_at", "read_at"]
    readonly_fields = fields

    def has_read_permission(self, request: HttpRequest) -> bool:
        """Whoever may change alerts."""
        return request.user.has_perm("workers.change_alert")

    @display(description="level", label={Alert.Level.ALERT.value: "danger", Alert.Level.INFO.value: "info"})
    def level_label(self, obj: Alert) -> str:
        """As a label."""
        return obj.level

    @display(description="details")
    def details_text(self, obj: Alert) -> str:
        """As JSON."""
        return pretty(obj.details)

    @action(description="Mark selected alerts as read", permissions=["read"])
    def mark_read(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        """Those that were not."""
        self.message_user(request, f"Marked as read: {mark_read(queryset)}.", messages.SUCCESS)


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """Deliveries of alerts by e-mail and webhook, and whether they were taken."""

    list_display = ["alert_link", "channel", "sent_at", "tries", "error", "created_at"]
    list_filter = ["channel"]
    list_select_related = ["alert"]
    search_fields = ["alert__text"]
    fields = [*list_display, "due_at"]
    readonly_fields = fields

    @display(description="alert")
    def alert_link(self, obj: Notification) -> str:
        """What is delivered."""
        return link(obj.alert)


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
