"""The states of a run and the moves between them."""

from __future__ import annotations

from django.db import models


class Status(models.TextChoices):
    """`queued → launching → running → finalizing → succeeded | failed | cancelled`."""

    QUEUED = "queued"
    LAUNCHING = "launching"
    RUNNING = "running"
    FINALIZING = "finalizing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
UNSUCCESSFUL = (Status.CANCELLED, Status.FAILED)
ACTIVE = frozenset(Status) - TERMINAL

# Where a run may come from, by where it goes to.
SOURCES: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.LAUNCHING, Status.RUNNING}),  # the job was lost: a new attempt
    Status.LAUNCHING: frozenset({Status.QUEUED}),
    Status.RUNNING: frozenset({Status.LAUNCHING}),
    Status.FINALIZING: frozenset({Status.LAUNCHING, Status.RUNNING}),
    Status.SUCCEEDED: frozenset({Status.FINALIZING, Status.QUEUED}),  # at once: the result of an equal run is reused
    Status.FAILED: frozenset(ACTIVE),
    Status.CANCELLED: frozenset({Status.QUEUED, Status.LAUNCHING, Status.RUNNING}),
}
