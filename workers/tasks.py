"""Celery tasks: hints and heartbeats. Each is harmless to repeat and ends within a minute."""

from celery import shared_task

from workers.services import advance_all, deliver_due


@shared_task
def reconcile() -> None:
    """Take every run a step on, and conclude the pipelines whose runs are over."""
    advance_all()


@shared_task
def deliver() -> None:
    """Send the notices that are due."""
    deliver_due()
