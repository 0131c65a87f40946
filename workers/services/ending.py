"""The end of an attempt: the run moves first, and only who has moved it cancels the job."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from datasets_app.text import plain
from workers.compute import get_compute
from workers.compute.types import ComputeUnavailable, JobState, JobStatus
from workers.models import Attempt, Run
from workers.services.money import charge
from workers.services.moves import move
from workers.services.silence import patience
from workers.states import Status

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3


def end(run: Run, attempt: Attempt, to: Status, outcome: str, words: str = "", **fields: Any) -> bool:
    """Move the run on from its attempt, which ended so, and free the attempt's slot."""
    words = plain(words)
    with transaction.atomic():
        if not move(run, to, error=words):
            return False
        close(attempt, outcome, words, **fields)
        return True


def give_up(run: Run, attempt: Attempt, to: Status, words: str, outcome: str = "cancelled") -> None:
    """The same where the job may go on, or start late: it is cancelled, by a later round if need be.

    To `queued` the attempt is lost, for another one; after a few the run has failed.
    """
    if to == Status.QUEUED:
        to, outcome = Status.FAILED if attempt.number >= MAX_ATTEMPTS else to, "lost"
    if end(run, attempt, to, outcome, words, cancel_due_at=timezone.now()):
        drop(attempt)


def close(attempt: Attempt, outcome: str, words: str = "", **fields: Any) -> None:
    """Record how the attempt ended."""
    now = timezone.now()
    Attempt.objects.filter(pk=attempt.pk).update(outcome=outcome, error=words, slot=None, ended_at=now, **fields)


def drop(attempt: Attempt) -> bool:
    """If a cancel of the attempt's job is due, tell the backend that nobody waits for the job, and count what it has
    cost: it may have begun although nobody had its handle. False if the backend does not listen; that is tried again,
    ever more rarely until it does.
    """
    now = timezone.now()
    again = now + patience(attempt)
    due = Attempt.objects.filter(pk=attempt.pk, cancel_due_at__lte=now)
    if not due.update(cancel_due_at=again, silences=F("silences") + 1):
        return True  # somebody else is at it
    attempt.refresh_from_db()  # its handle may have come late
    compute, handle = get_compute(attempt.run.backend), attempt.handle or attempt.launch_key
    try:
        compute.cancel(handle, at_once=True)
        _charge_last(attempt, handle)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        log.warning("The job of %s could not be cancelled; that is tried again: %s", attempt, error)
        charge(attempt, JobStatus(JobState.RUNNING))  # for all that is known
        with suppress(ComputeUnavailable):
            _charge_last(attempt, handle)  # its known call may have ended, and only a twin be owed its cancel
        return False
    Attempt.objects.filter(pk=attempt.pk, cancel_due_at=again).update(cancel_due_at=None)
    return True


def _charge_last(attempt: Attempt, handle: str) -> None:
    try:
        charge(attempt, get_compute(attempt.run.backend).poll(handle))
    except (ComputeUnavailable, SoftTimeLimitExceeded):
        raise
    except Exception as error:  # what cannot be read now never will be
        log.warning("What the job of %s has cost is not known: %s", attempt, error)
