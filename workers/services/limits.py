"""How long a run or a pipeline may stay where it is (`settings.RUN_LIMITS`), and what happens then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from workers.models import Pipeline, Run
from workers.states import Status


@dataclass(frozen=True)
class Ending:
    """Why a job has to end: where its run goes then (`queued` for another attempt), and since when it is due."""

    to: Status
    words: str
    since: datetime

    @property
    def is_overdue(self) -> bool:
        """Whether the backend has had its time to end the job; the run goes on without it then."""
        return timezone.now() > self.since + limit("CANCEL")


def limit(name: str) -> timedelta:
    """One of `settings.RUN_LIMITS`."""
    return timedelta(seconds=settings.RUN_LIMITS[name])


def has_failed(work: Run | Pipeline, name: str) -> bool:
    """Whether each try to take it a step on has failed, for longer than the limit."""
    return work.failing_since is not None and timezone.now() > work.failing_since + limit(name)


def ending(run: Run, now: datetime | None = None) -> Ending | None:
    """Why the run's job has to end as of `now` or the last look, if it has to: asked for, out of time, or silent."""
    now = now or run.seen_at or timezone.now()
    if run.cancel_requested_at is not None:
        return Ending(Status.CANCELLED, "", run.cancel_requested_at)
    allowed = _allowed(run)
    deadline = (run.started_at or run.created_at) + allowed
    if now > deadline:
        return Ending(Status.FAILED, f"It did not end within {allowed.total_seconds():.0f} s.", deadline)
    silent = (run.heartbeat_at or run.moved_at or run.created_at) + limit("STALL")
    if now > silent:
        seconds = limit("STALL").total_seconds()
        return Ending(Status.QUEUED, f"Its job reported no progress for {seconds:.0f} s.", silent)
    return None


def longest(backend: str) -> timedelta:
    """How long a run may take that has no time limit of its own."""
    deadline: timedelta | None = settings.COMPUTE[backend].get("DEADLINE")
    return deadline or limit("TOTAL")


def _allowed(run: Run) -> timedelta:
    """From the first launch to the end: the run's own limit, else that of its backend, else everybody's."""
    return timedelta(seconds=run.time_limit) if run.time_limit else longest(run.backend)
