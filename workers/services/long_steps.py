"""Steps that take longer than a round: each goes on in a task of its own, which holds the run's lease meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, connection
from django.utils import timezone

from workers.models import Run
from workers.services.moves import LEASE, note
from workers.states import Status

log = logging.getLogger(__name__)

LONG = "This step takes longer than a round: it goes on in a task of its own, one at a time."
GETS_ON = 300.0  # seconds; a try that lasted longer has brought something, even if it fails then
STATUSES = (Status.LAUNCHING, Status.FINALIZING)


def is_long(run: Run) -> bool:
    """Whether the run's step has been found to take longer than a round; to give a launch up takes no time."""
    to_end = run.status == Status.LAUNCHING and run.cancel_requested
    return run.trouble == LONG and run.status in STATUSES and not to_end


def hand_over(run: Run) -> None:
    """Have the run's step taken by a task of its own. Like every message it may get lost: the lease ends then."""
    from workers.tasks import advance_long

    if run.status not in STATUSES or not note(run, trouble=LONG, lease_until=timezone.now() + LEASE):
        return
    try:
        advance_long.apply_async((run.pk, run.version), expires=LEASE.total_seconds())
    except Exception as error:
        log.warning("The broker took no message (%s): the step of %s waits.", type(error).__name__, run.name)


@contextmanager
def kept(run: Run) -> Iterator[None]:
    """Renew the run's lease until the step is over, or somebody wants the run to end."""
    stop, status, began = threading.Event(), run.status, time.monotonic()

    def keep() -> None:
        while not stop.wait(LEASE.total_seconds() / 3):
            if time.monotonic() - began > GETS_ON:
                run.failing_since = None
            with suppress(DatabaseError):
                extend(run, status)
            connection.close()

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def extend(run: Run, status: str) -> bool:
    """Lease the run for longer; False if it has moved on, or its launch is to end."""
    rows = Run.objects.filter(pk=run.pk, version=run.version, status=status)
    return bool(rows.update(lease_until=timezone.now() + LEASE, failing_since=run.failing_since))
