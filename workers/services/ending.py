"""The end of an attempt."""

from __future__ import annotations

import logging

from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.utils import timezone

from workers.compute import get_compute
from workers.compute.types import ComputeUnavailable
from workers.models import Attempt, Run
from workers.services.money import charge
from workers.services.moves import move
from workers.states import Status

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3


def end(run: Run, attempt: Attempt, to: Status, outcome: str, words: str = "") -> bool:
    """Move the run on from its attempt, which ended so, and free the attempt's slot."""
    with transaction.atomic():
        if not move(run, to, error=words):
            return False
        close(attempt, outcome, words)
        return True


def lose(run: Run, attempt: Attempt, words: str) -> None:
    """The attempt's job is gone: another attempt, or failure after a few."""
    quietly_drop(run, attempt)  # one that starts late finds that nobody waits for it
    end(run, attempt, Status.FAILED if attempt.number >= MAX_ATTEMPTS else Status.QUEUED, "lost", words)


def close(attempt: Attempt, outcome: str, words: str = "") -> None:
    """Record how the attempt ended."""
    Attempt.objects.filter(pk=attempt.pk).update(outcome=outcome, error=words, slot=None, ended_at=timezone.now())


def drop(run: Run, attempt: Attempt) -> None:
    """Tell the backend that nobody waits for the job any more, and count what it has cost: it may have begun although
    nobody had its handle. Raises whatever kept the backend from listening."""
    compute, handle = get_compute(run.backend), attempt.handle or attempt.launch_key
    compute.cancel(handle, at_once=True)
    try:
        charge(attempt, compute.poll(handle))
    except (ComputeUnavailable, SoftTimeLimitExceeded):
        raise
    except Exception as error:  # what cannot be read now never will be
        log.warning("What the job of %s has cost is not known: %s", run.name, error)
    Attempt.objects.filter(pk=attempt.pk).update(cancel_due_at=None)


def quietly_drop(run: Run, attempt: Attempt) -> bool:
    """Drop the job, or leave that to later rounds if the backend does not listen; whether it did."""
    try:
        drop(run, attempt)
    except Exception as error:
        log.warning("The job of %s could not be cancelled; that is tried again: %s", run.name, error)
        Attempt.objects.filter(pk=attempt.pk, cancel_due_at=None).update(cancel_due_at=timezone.now())
        if isinstance(error, SoftTimeLimitExceeded):
            raise
        return False
    return True
