"""Times that rows wait for, by a clock that may have been ahead when they were written, and was set right since."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q
from django.utils import timezone


def is_to_come(field: str, longest: timedelta) -> Q:
    """Rows whose time in `field` is still to come; not those where it lies further ahead than the longest wait: a clock
    that was ahead has written that, and nobody waits for it."""
    now = timezone.now()
    return Q(**{f"{field}__range": (now, now + longest)})
