"""The count of unread alerts in the admin's header."""

from __future__ import annotations

from typing import Any

from django import template
from django.db.models import Count, Q
from django.urls import reverse

from workers.models import Alert

register = template.Library()


@register.inclusion_tag("unfold/helpers/label.html")
def unread_alerts() -> dict[str, Any]:
    """How many are unread, in red if there is more than ends of pipelines among them, as a link to their list."""
    unread = Alert.objects.filter(read_at=None)
    counts = unread.aggregate(all=Count("pk"), alerts=Count("pk", Q(level=Alert.Level.ALERT)))
    return {
        "text": counts["all"],
        "type": "danger" if counts["alerts"] else "default",
        "icon": "notifications",
        "label_title": "Unread alerts",
        "href": f"{reverse('admin:workers_alert_changelist')}?read_at__isempty=1",
    }
