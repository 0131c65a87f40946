"""Cancelling for people, who are told where there was nothing to cancel."""

from __future__ import annotations

from datasets_app.errors import InputError
from workers.models import Pipeline, Run
from workers.services.launching import cancel
from workers.services.pipelines import cancel_pipeline
from workers.states import Status


def cancel_unless_over(work: Run | Pipeline) -> Run | Pipeline:
    """Ask the run or pipeline to end; InputError if it had ended."""
    if not work.is_over:
        work = cancel_pipeline(work) if isinstance(work, Pipeline) else cancel(work)
        if not work.is_over or work.status == Status.CANCELLED:
            return work
    raise InputError(f"It is over ({Status(work.status).value}): nothing was cancelled.")
