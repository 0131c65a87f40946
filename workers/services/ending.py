"""The end of an attempt."""

from __future__ import annotations

import logging

from django.db import transaction
from django.utils import timezone

from workers.compute import get_compute
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
    quietly_cancel(run, attempt)  # one that starts late finds that nobody waits for it
    end(run, attempt, Status.FAILED if attempt.number >= MAX_ATTEMPTS else Status.QUEUED, "lost", words)


def close(attempt: Attempt, outcome: str, words: str = "") -> None:
    """Record how the attempt ended."""
    Attempt.objects.filter(pk=attempt.pk).update(outcome=outcome, error=words, slot=None, ended_at=timezone.now())


def quietly_cancel(run: Run, attempt: Attempt) -> bool:
    """Tell the backend that nobody waits for the job any more; whether it listened."""
    try:
        get_compute(run.backend).cancel(attempt.handle or attempt.launch_key, at_once=True)
    except Exception as error:
        log.warning("The job of %s could not be cancelled: %s", run.name, error)
        return False
    return True


def settle(run: Run, attempt: Attempt) -> None:
    """Count what a job has cost whose launch is given up: it may have begun although nobody had its handle."""
    try:
        charge(attempt, get_compute(run.backend).poll(attempt.handle or attempt.launch_key))
    except Exception as error:
        log.warning("What the job of %s has cost is not known: %s", run.name, error)
