"""One step of everything that is due. Any number of processes may do this at once, and end at any point."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from datetime import datetime

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db.models import F, QuerySet
from django.utils import timezone

from datasets_app.room import explain, is_disk_full
from workers.compute.types import ComputeUnavailable, JobState
from workers.models import Attempt, Run
from workers.selectors import launchable, never_launched, with_newest_attempt
from workers.services.alone import LONG_STEP, alone
from workers.services.clock import is_to_come
from workers.services.concluding import conclude_all
from workers.services.ending import drop
from workers.services.following import Said, ask, finish, follow, goes_on
from workers.services.long_steps import hand_over, is_long, kept
from workers.services.money import over_day
from workers.services.moves import LONGEST_LEASE, attend, trouble
from workers.services.silence import patience
from workers.services.starting import HELD_UP, has_room, owed, resume, start
from workers.states import ACTIVE, Status

log = logging.getLogger(__name__)

ROUND_SECONDS = 30.0  # then the next round goes on, so that no task outlives its time limit
TOGETHER = 100  # runs that are read, and written if nothing has changed, at once


def advance_all() -> None:
    """Take every run that is not over one step on, and conclude the pipelines whose runs are.

    The runs of a backend are for one process at a time: a backend that is slow to answer holds up no other, and what a
    round has not come to is not begun by two.
    """
    until = time.monotonic() + ROUND_SECONDS
    active = Run.objects.filter(status__in=ACTIVE).order_by().values_list("backend", flat=True)
    backends = {*active, *_owed().order_by().values_list("run__backend", flat=True)}  # DISTINCT would read all runs
    try:
        for backend in random.sample(sorted(backends), len(backends)):
            with alone(f"round-{backend}") as mine:
                if mine:
                    _advance_backend(backend, until)
    finally:  # a step that took too long costs nobody else his turn
        conclude_all()


def _advance_backend(backend: str, until: float) -> None:
    """Its runs that are under way, its queue, and its jobs that nobody waits for; until it turns out not to answer."""
    due = list(_due(backend).exclude(status=Status.QUEUED).order_by().values_list("pk", "status"))
    random.shuffle(due)  # a slow one at the front does not starve the rest
    for steps in (_under_way(backend, due, until), _queue(backend, {pk for pk, _ in due}, until)):
        with closing(steps) as found:
            for run, said in found:
                try:
                    _advance_safely(run, said)
                except ComputeUnavailable as error:
                    _ask_later(run, str(error))
                    return
    for attempt in _owed().filter(run__backend=backend).select_related("run").order_by("cancel_due_at"):
        if time.monotonic() > until or not drop(attempt):
            return


def _owed() -> QuerySet[Attempt]:
    """Those whose jobs nobody waits for, and whose cancel is due."""
    due = Attempt.objects.filter(cancel_due_at__lte=timezone.now(), run__backend__in=settings.COMPUTE)
    return due.exclude(outcome="")


def _due(backend: str) -> QuerySet[Run]:
    """Runs that are not over, and that nobody is at."""
    active = Run.objects.filter(status__in=ACTIVE, backend=backend)
    return active.exclude(is_to_come("lease_until", LONGEST_LEASE))


Steps = Generator[tuple[Run, Said | None]]
"""Runs to be taken a step on, each as it is now, some with what their jobs have said."""


def _under_way(backend: str, due: list[tuple[int, str]], until: float) -> Steps:
    yield from _one_by_one(backend, [pk for pk, status in due if status != Status.RUNNING], until)
    running = [pk for pk, status in due if status == Status.RUNNING]
    have_to_end = bool(over_day(backend))
    for first in range(0, len(running), TOGETHER):
        yield from _running(backend, running[first : first + TOGETHER], until, have_to_end=have_to_end)


def _one_by_one(backend: str, pks: Iterable[int], until: float) -> Steps:
    for pk in pks:
        if time.monotonic() > until:
            return
        run = _due(backend).filter(pk=pk).first()
        if run is None:
            continue  # moved meanwhile
        if is_long(run):
            hand_over(run)
        else:
            yield run, None


def _running(backend: str, pks: list[int], until: float, *, have_to_end: bool) -> Steps:
    """Those with news; that somebody has looked at the others is written down for all of them at once."""
    asked = timezone.now()
    waiting: list[int] = []
    working: list[int] = []
    try:
        for attempt in with_newest_attempt(_due(backend).filter(pk__in=pks, status=Status.RUNNING)):
            if time.monotonic() > until:
                return
            run, said = attempt.run, ask(attempt.run, attempt)
            if have_to_end or isinstance(said, Exception) or not goes_on(run, attempt, said):
                yield run, said
            else:
                (waiting if said.state == JobState.PENDING else working).append(run.pk)
    finally:
        _looked_at(backend, working, seen_at=asked)
        _looked_at(backend, waiting, seen_at=asked, heartbeat_at=timezone.now())


def _looked_at(backend: str, pks: list[int], **seen: datetime) -> None:
    if not pks:
        return
    if interval := settings.COMPUTE[backend].get("POLL"):
        seen["lease_until"] = timezone.now() + interval
    _due(backend).filter(pk__in=pks, status=Status.RUNNING, cancel_requested_at=None).update(**seen)


def _queue(backend: str, under_way: set[int], until: float) -> Steps:
    """Those that end, and of the others as many as there is room for; not those that have come back in this round."""
    queued = _due(backend).filter(status=Status.QUEUED).order_by("id")
    yield from _one_by_one(backend, list(never_launched(queued).values_list("pk", flat=True)), until)
    if not has_room(backend):
        return
    waiting = launchable(queued).exclude(trouble=HELD_UP, name__in=owed(backend).values("run__name"))
    pks = [pk for pk in waiting.values_list("pk", flat=True) if pk not in under_way]
    for step in _one_by_one(backend, pks, until):
        yield step
        if not has_room(backend):
            return


def advance_long(run: Run) -> None:
    """Take one run a step on that takes longer than a round; nothing happens if another long step is under way."""
    with alone(LONG_STEP) as mine:
        if mine:
            with kept(run):
                try:
                    _advance_safely(run)
                except ComputeUnavailable as error:
                    _ask_later(run, str(error))


def _advance_safely(run: Run, said: Said | None = None) -> None:
    try:
        advance(run, said)
    except ComputeUnavailable:
        raise
    except SoftTimeLimitExceeded:
        hand_over(run)
        raise
    except Exception as error:
        log.exception("Run %s could not be taken a step on; the next round tries again.", run.name)
        try:
            trouble(run, explain(error), waits=is_disk_full(error))
        except SoftTimeLimitExceeded:
            raise
        except Exception:
            log.exception("Nor could the reason be written down.")


def _ask_later(run: Run, words: str) -> None:
    """Leave the run as it is, with the reason, and ask again after a while that doubles each time.

    The backend is silent, not the job, which therefore does not count as stalled, nor its result as lost.
    """
    attempt = run.attempts.latest("number")
    wait = patience(attempt)
    has_job = run.status != Status.LAUNCHING
    if trouble(run, words, waits=has_job, lease_until=timezone.now() + wait):
        Attempt.objects.filter(pk=attempt.pk).update(silences=F("silences") + 1)
    log.warning("Run %s: %s Asked again in %.0f s.", run.name, words, wait.total_seconds())


def advance(run: Run, said: Said | None = None) -> None:
    """Take one run a step on, by what its job has said or is asked now; harmless to repeat."""
    if run.status != Status.QUEUED and not attend(run):
        return
    match Status(run.status):
        case Status.QUEUED:
            start(run)
        case Status.LAUNCHING:
            resume(run)
        case Status.RUNNING:
            follow(run, said)
        case Status.FINALIZING:
            finish(run)
