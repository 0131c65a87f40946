"""One step of everything that is due. Any number of processes may do this at once, and end at any point."""

from __future__ import annotations

import logging
import random
import time
from datetime import timedelta

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import DatabaseError
from django.db.models import F, Q
from django.utils import timezone

from datasets_app.room import explain, is_disk_full
from workers.compute.types import ComputeUnavailable, JobState, JobStatus
from workers.models import Attempt, Run
from workers.services.concluding import conclude_all
from workers.services.ending import quietly_drop
from workers.services.following import finish, follow
from workers.services.long_steps import alone, hand_over, is_long, kept
from workers.services.money import charge
from workers.services.moves import trouble
from workers.services.starting import resume, start
from workers.states import ACTIVE, Status

log = logging.getLogger(__name__)

ROUND_SECONDS = 30.0  # then the next round goes on, so that no task outlives its time limit
BACKOFF = (timedelta(seconds=5), timedelta(minutes=5))  # the first wait for a backend that does not answer, the longest


def advance_all() -> int:
    """Take every run that is not over one step on, and conclude the pipelines whose runs are; how many runs it were."""
    until = time.monotonic() + ROUND_SECONDS
    due = Run.objects.filter(status__in=ACTIVE).filter(Q(lease_until__isnull=True) | Q(lease_until__lt=timezone.now()))
    runs = list(due.order_by("id"))
    under_way = [run for run in runs if run.status != Status.QUEUED]
    random.shuffle(under_way)  # a slow one at the front does not starve the rest
    try:
        _advance_each(under_way + [run for run in runs if run.status == Status.QUEUED], until)
    finally:  # a step that took too long costs nobody else his turn
        conclude_all()
    return len(runs)


def _advance_each(runs: list[Run], until: float) -> None:
    silent: set[str] = set()
    for run in runs:
        if time.monotonic() > until:
            break
        if run.backend in silent:
            continue  # it takes long to find out that a backend does not answer
        if is_long(run):
            hand_over(run)
            continue
        try:
            _advance_safely(run)
        except ComputeUnavailable as error:
            silent.add(run.backend)
            _ask_later(run, str(error))
    _cancel_owed(silent, until)


def advance_long(run: Run) -> None:
    """Take one run a step on that takes longer than a round; nothing happens if another long step is under way."""
    with alone() as mine:
        if mine:
            with kept(run):
                try:
                    _advance_safely(run)
                except ComputeUnavailable as error:
                    _ask_later(run, str(error))


def _advance_safely(run: Run) -> None:
    try:
        advance(run)
    except ComputeUnavailable:
        raise
    except SoftTimeLimitExceeded:
        hand_over(run)
        raise
    except Exception as error:
        log.exception("Run %s could not be taken a step on; the next round tries again.", run.name)
        try:
            trouble(run, explain(error), waits=is_disk_full(error))
        except DatabaseError:
            log.warning("Nor could the reason be written down.")


def _ask_later(run: Run, words: str) -> None:
    """Leave the run as it is, with the reason, and ask again after a while that doubles each time.

    The backend is silent, not the job, which therefore does not count as stalled, nor its result as lost.
    """
    attempt = run.attempts.latest("number")
    wait = _wait(attempt)
    has_job = run.status != Status.LAUNCHING
    if trouble(run, words, waits=has_job, lease_until=timezone.now() + wait):
        Attempt.objects.filter(pk=attempt.pk).update(silences=F("silences") + 1)
    log.warning("Run %s: %s Asked again in %.0f s.", run.name, words, wait.total_seconds())


def _wait(attempt: Attempt) -> timedelta:
    first, longest = BACKOFF
    wait: timedelta = min(first * 2 ** min(attempt.silences, 10), longest)
    return wait


def _cancel_owed(silent: set[str], until: float) -> None:
    """Cancel the jobs that nobody waits for and whose backend did not listen, ever more rarely until it does."""
    now = timezone.now()
    owed = Attempt.objects.filter(cancel_due_at__lte=now, run__backend__in=settings.COMPUTE).exclude(outcome="")
    for attempt in owed.select_related("run").order_by("cancel_due_at"):
        if time.monotonic() > until:
            break
        if attempt.run.backend in silent:
            continue
        mine = Attempt.objects.filter(pk=attempt.pk, cancel_due_at=attempt.cancel_due_at)
        if not mine.update(cancel_due_at=now + _wait(attempt), silences=F("silences") + 1):
            continue  # another process is at it
        if not quietly_drop(attempt.run, attempt):
            silent.add(attempt.run.backend)
            charge(attempt, JobStatus(JobState.RUNNING))  # for all that is known


def advance(run: Run) -> None:
    """Take one run a step on; harmless to repeat."""
    match Status(run.status):
        case Status.QUEUED:
            start(run)
        case Status.LAUNCHING:
            resume(run)
        case Status.RUNNING:
            follow(run)
        case Status.FINALIZING:
            finish(run)
