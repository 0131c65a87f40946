"""The one function that changes a run's status."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import F, QuerySet
from django.utils import timezone

from datasets_app.text import plain
from workers.models import Run
from workers.services.silence import BACKOFF
from workers.states import SOURCES, TERMINAL, Status

LEASE = timedelta(seconds=settings.LEASE_SECONDS)
LONGEST_LEASE = max(LEASE, BACKOFF[1])
GAP = timedelta(minutes=1)  # shorter than the time that a job has to end
FINE: dict[str, Any] = {"trouble": "", "failing_since": None}
TROUBLE_LENGTH = 500


def move(run: Run, to: Status, *, lease: timedelta | None = None, **fields: Any) -> bool:
    """Move `run` to the status `to`, unless somebody else has moved it since it was read.

    One conditional UPDATE on status and version. `lease` says how long the caller works on it before others may
    take over. True if the row was changed; then `run` holds the new values. False: read the row again.
    """
    now = timezone.now()
    values: dict[str, Any] = {
        "status": to,
        "lease_until": now + lease if lease else None,
        "moved_at": now,
        **FINE,
        **fields,
    }
    if to in TERMINAL:
        values["finished_at"] = now
    if not Run.objects.filter(pk=run.pk, version=run.version, status__in=SOURCES[to]).update(
        version=F("version") + 1, **values
    ):
        return False
    for name, value in values.items():
        setattr(run, name, value)
    run.version += 1
    return True


def renew(run: Run, lease: timedelta) -> bool:
    """Take over a run whose lease has ended, without moving it; False if somebody else did."""
    now = timezone.now()
    won = Run.objects.filter(pk=run.pk, version=run.version, status=run.status).update(
        version=F("version") + 1, lease_until=now + lease
    )
    if won:
        run.version += 1
        run.lease_until = now + lease
    return bool(won)


def want_end(runs: QuerySet[Run]) -> None:
    """Write down that these runs are to be cancelled, all at once, save those that cannot be any more; whoever read one
    before moves it no more, and it waits for no lease."""
    runs.filter(status__in=SOURCES[Status.CANCELLED], cancel_requested_at=None).update(
        version=F("version") + 1, cancel_requested_at=timezone.now(), lease_until=None
    )


def note(run: Run, **fields: Any) -> bool:
    """Write what was seen of a run without moving it; False if it has moved since it was read."""
    return bool(Run.objects.filter(pk=run.pk, version=run.version, status=run.status).update(**fields))


def take_note(run: Run, **fields: Any) -> bool:
    """The same, and `run` holds it, too."""
    noted = note(run, **fields)
    if noted:
        for name, value in fields.items():
            setattr(run, name, value)
    return noted


def unseen(run: Run) -> timedelta:
    """The time since the last look, or the end of the lease that was taken then, that counts against no limit: what is
    beyond `GAP`. The machine may have slept or no worker been there, and nobody could have seen the job get on."""
    looks = (run.seen_at, run.lease_until, run.moved_at, run.heartbeat_at, run.created_at)
    return max(timezone.now() - max(at for at in looks if at) - GAP, timedelta())


def attend(run: Run) -> bool:
    """Write down that somebody looks after the run now; False if it has moved since it was read."""
    now, gap = timezone.now(), unseen(run)
    seen: dict[str, Any] = {"seen_at": now}
    for name in ("heartbeat_at", "failing_since"):
        if since := getattr(run, name):
            seen[name] = min(since + gap, now)
    return take_note(run, **seen)


def trouble(run: Run, words: str, *, waits: bool = False, **fields: Any) -> bool:
    """Note what kept the run from being taken a step on; False if it has moved since it was read.

    From the first of its failures on, the limit of its step runs. What `waits`, for room on the disk or for a backend
    that is silent about a job, has not failed, and could not have got on.
    """
    now = timezone.now()
    seen = {"failing_since": None, "heartbeat_at": now} if waits else {"failing_since": run.failing_since or now}
    return note(run, trouble=plain(words)[:TROUBLE_LENGTH], **seen, **fields)
