"""Celery tasks: hints and heartbeats. Each is harmless to repeat, and ends within a minute unless it says otherwise."""

import logging
from typing import Annotated

from celery import shared_task
from pydantic import Field

from workers.models import Run
from workers.services import advance_all, deliver_due, look_at_account, run_due
from workers.services import prune as prune_now
from workers.services.advancing import advance_long as advance_one_long
from workers.services.alone import LONG_STEP, alone
from workers.services.heartbeats import beat

log = logging.getLogger(__name__)


@shared_task
def reconcile() -> None:
    """Launch what the schedule asks for, take every run a step on, conclude the pipelines whose runs are over."""
    beat("worker")
    try:
        run_due()
    finally:  # what is wrong with a schedule holds no run up
        advance_all()


@shared_task(soft_time_limit=3500, time_limit=3600)
def advance_long(pk: int, version: int) -> None:
    """Take a run that has not moved since on by a step that takes longer than a round."""
    run = Run.objects.filter(pk=pk, version=version).first()
    if run is not None:
        advance_one_long(run)


@shared_task
def deliver() -> None:
    """Send the notifications that are due."""
    deliver_due()


@shared_task
def check_account() -> None:
    """Find out what is wrong with the account on Modal."""
    look_at_account()


@shared_task
def reevaluate(
    fresh_samples: Annotated[int | None, Field(ge=0, le=1_000_000)] = None,
    rollback: bool = False,
) -> None:
    """Beat's word that a slot is due. The arguments are declared here, and read from the periodic task's row: a message
    that is lost or repeated changes nothing."""
    run_due()


@shared_task(soft_time_limit=3500, time_limit=3600)
def prune() -> None:
    """Delete what is old and not needed, unless another long task leaves the rounds but one process."""
    with alone(LONG_STEP) as mine:
        if mine:
            for what, size in prune_now(dry_run=False):
                log.info("Deleted %s (%.1f MB).", what, size / 1e6)
