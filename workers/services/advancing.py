"""One step of everything that is due. Any number of processes may do this at once, and end at any point."""

from __future__ import annotations

import logging
import random
import time

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db.models import F, QuerySet
from django.utils import timezone

from datasets_app.room import explain, is_disk_full
from workers.compute.types import ComputeUnavailable
from workers.models import Attempt, Run
from workers.services.clock import is_to_come
from workers.services.concluding import conclude_all
from workers.services.ending import drop
from workers.services.following import finish, follow
from workers.services.long_steps import alone, hand_over, is_long, kept
from workers.services.moves import LONGEST_LEASE, attend, trouble
from workers.services.silence import patience
from workers.services.starting import resume, start
from workers.states import ACTIVE, Status

log = logging.getLogger(__name__)

ROUND_SECONDS = 30.0  # then the next round goes on, so that no task outlives its time limit


def advance_all() -> int:
    """Take every run that is not over one step on, and conclude the pipelines whose runs are; how many runs it were."""
    until = time.monotonic() + ROUND_SECONDS
    due = _due().order_by("id").values_list("pk", "status")
    under_way = [pk for pk, status in due if status != Status.QUEUED]
    queued = [pk for pk, status in due if status == Status.QUEUED]
    random.shuffle(under_way)  # a slow one at the front does not starve the rest
    try:
        _advance_each(under_way + queued, until)
    finally:  # a step that took too long costs nobody else his turn
        conclude_all()
    return len(under_way + queued)


def _due() -> QuerySet[Run]:
    """Runs that are not over, and that nobody is at."""
    return Run.objects.filter(status__in=ACTIVE).exclude(is_to_come("lease_until", LONGEST_LEASE))


def _advance_each(due: list[int], until: float) -> None:
    silent: set[str] = set()
    for pk in due:
        if time.monotonic() > until:
            break
        run = _due().filter(pk=pk).exclude(backend__in=silent).first()  # as it is now
        if run is None:
            continue  # moved meanwhile; or it takes long to find out that a backend does not answer
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


def _cancel_owed(silent: set[str], until: float) -> None:
    """Cancel the jobs that nobody waits for and whose cancel is due."""
    owed = Attempt.objects.filter(cancel_due_at__lte=timezone.now(), run__backend__in=settings.COMPUTE)
    for attempt in owed.exclude(outcome="").select_related("run").order_by("cancel_due_at"):
        if time.monotonic() > until:
            break
        if attempt.run.backend not in silent and not drop(attempt):
            silent.add(attempt.run.backend)


def advance(run: Run) -> None:
    """Take one run a step on; harmless to repeat."""
    if run.status != Status.QUEUED and not attend(run):
        return
    match Status(run.status):
        case Status.QUEUED:
            start(run)
        case Status.LAUNCHING:
            resume(run)
        case Status.RUNNING:
            follow(run)
        case Status.FINALIZING:
            finish(run)
