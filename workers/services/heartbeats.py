"""Signs of life of worker and beat, which answer no requests.

The worker's is that a process of its pool has begun a round: broker, worker and pool are there and take what comes. The
main process of a worker goes on sending heartbeats of its own when its pool hangs, so these say nothing.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from django.db import DatabaseError, connection
from django.utils import timezone

from workers.models import Heartbeat

log = logging.getLogger(__name__)

EVERY = 10.0  # seconds between two writes
DEAD_AFTER = timedelta(seconds=45)

_written: dict[str, float] = {}


def beat(role: str) -> None:
    """Write down that a process of this role lives, at most every ten seconds; never fails."""
    if time.monotonic() - _written.get(role, float("-inf")) < EVERY:
        return
    _written[role] = time.monotonic()
    try:
        Heartbeat.objects.update_or_create(role=role, defaults={"at": timezone.now()})
    except DatabaseError as error:
        log.warning("The sign of life of %s could not be written: %s", role, error)
    if not connection.in_atomic_block:
        connection.close()  # beat lives long: a database that was restarted is reached anew


def is_alive(role: str) -> bool:
    """Whether a process of this role was seen of late; what lies further ahead, a clock that was wrong has written."""
    now = timezone.now()
    return Heartbeat.objects.filter(role=role, at__range=(now - DEAD_AFTER, now + DEAD_AFTER)).exists()
