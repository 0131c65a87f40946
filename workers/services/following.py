"""From a running job to its recorded result."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from datasets_app.errors import InputError
from workers.compute import get_compute
from workers.compute.types import JobState, JobStatus, Progress
from workers.kinds import get_kind
from workers.models import Attempt, Run
from workers.recipes.manifest import ManifestError
from workers.selectors import newest_attempt
from workers.services.ending import close, end, give_up
from workers.services.limits import Ending, ending, has_failed, limit, longest
from workers.services.money import charge, is_paid, over_cap
from workers.services.moves import FINE, LEASE, move, note, renew, take_note, unseen
from workers.states import Status

log = logging.getLogger(__name__)

MIB = 2**20


Said = JobStatus | Exception
"""What a backend says of a job, or why it says nothing."""


def ask(run: Run, attempt: Attempt) -> Said:
    """Ask the backend after the job."""
    try:
        return get_compute(run.backend).poll(attempt.handle)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        return error


def goes_on(run: Run, attempt: Attempt, job: JobStatus) -> bool:
    """Whether the job is as the rows say, and nothing is to be done but to write down that somebody looked."""
    is_under_way = job.state in (JobState.PENDING, JobState.RUNNING)
    is_news = job.handle or job.progress not in ({}, run.progress)
    is_counted = attempt.silences or run.trouble or run.failing_since or unseen(run)
    costs = attempt.cost or (is_paid(run.backend) and (job.seconds or attempt.began_at))
    return is_under_way and not (is_news or is_counted or costs) and ending(run, timezone.now()) is None


def follow(run: Run, said: Said | None = None) -> None:
    """Look after a run's job: take over what it says, end it when it is due, and move the run when it is over."""
    attempt = newest_attempt(run)
    if attempt is None:
        return
    try:
        _take_over(run, attempt, said or ask(run, attempt))
    except Exception:  # whatever is wrong with the backend or with what the job left, an end that is overdue comes
        stored = Run.objects.get(pk=run.pk)  # `run` may hold values that were never written
        wanted = _due(stored, attempt)
        if stored.status != Status.RUNNING or wanted is None or not wanted.is_overdue:
            raise
        log.exception("Run %s is ended without its job's word.", run.name)
        give_up(stored, attempt, wanted.to, wanted.words)
        return
    if run.status == Status.FINALIZING:
        _finalize(run)


def _take_over(run: Run, attempt: Attempt, said: Said) -> None:
    """Take over what the job says of itself, once it has been told to end if it has to; all but the outputs."""
    job = _heard(run, attempt, said)
    wanted = _due(run, attempt)  # only now: a job that got on while nobody looked does not hang
    if wanted is not None and job.state in (JobState.PENDING, JobState.RUNNING):
        get_compute(run.backend).cancel(attempt.handle)
        job = _heard(run, attempt, ask(run, attempt))
    match job.state:
        case JobState.PENDING | JobState.RUNNING:
            if wanted is not None and wanted.is_overdue:
                give_up(run, attempt, wanted.to, wanted.words)
        case JobState.SUCCEEDED:
            with transaction.atomic():
                if move(run, Status.FINALIZING, lease=LEASE, summary=job.summary):
                    Attempt.objects.filter(pk=attempt.pk).update(slot=None)
        case JobState.FAILED:
            end(run, attempt, Status.FAILED, "failed", job.error)
        case JobState.CANCELLED | JobState.LOST if wanted is not None:
            give_up(run, attempt, wanted.to, wanted.words)
        case JobState.CANCELLED:
            give_up(run, attempt, Status.QUEUED, "The job was told to end, and not by this platform.")
        case JobState.LOST:
            give_up(run, attempt, Status.QUEUED, job.error)


def _due(run: Run, attempt: Attempt) -> Ending | None:
    return ending(run) or over_cap(run, attempt)


def _heard(run: Run, attempt: Attempt, said: Said) -> JobStatus:
    """How the job stands; the rows show it from then on."""
    if isinstance(said, Exception):
        raise said
    job = said
    is_held = job.seconds or (attempt.began_at and job.state == JobState.RUNNING)
    if job.handle or is_held or attempt.silences:
        attempt.handle, attempt.silences = job.handle or attempt.handle, 0
        attempt.save(update_fields=["handle", "silences"])
        charge(attempt, job)
    if seen := _seen(run, job):
        take_note(run, **seen)
    return job


def _seen(run: Run, job: JobStatus) -> dict[str, Any]:
    """What a look at the job changes in the run's row."""
    now = timezone.now()
    seen = dict(FINE) if run.trouble else {}
    if job.progress and job.progress != run.progress:
        seen |= {"progress": job.progress, "heartbeat_at": now}
    elif job.state == JobState.PENDING:  # it waits for a machine: nothing is to be expected of it
        seen["heartbeat_at"] = now
    if interval := settings.COMPUTE[run.backend].get("POLL"):
        seen["lease_until"] = now + interval
    return seen


def finish(run: Run) -> None:
    """Go on with a finalisation that was cut short; give up on one that has failed, or gone on, for too long."""
    words, whole = "", longest(run.backend)
    if has_failed(run, "FINALIZE"):
        minutes = limit("FINALIZE").total_seconds() / 60
        words = f"Its result could not be recorded for {minutes:.0f} min: {run.trouble}"
    elif timezone.now() > (run.moved_at or run.created_at) + whole:
        words = f"Its result could not be recorded within {whole.total_seconds() / 3600:.0f} h."
    if words:
        end(run, run.attempts.latest("number"), Status.FAILED, "failed", words)
    elif renew(run, LEASE):
        _finalize(run)


def _finalize(run: Run) -> None:
    attempt = run.attempts.latest("number")
    try:
        outputs = get_compute(run.backend).outputs(attempt.handle, _collecting(run))
        fields = get_kind(run.kind).finalize(run, outputs)
    except (InputError, ManifestError) as error:
        end(run, attempt, Status.FAILED, "failed", str(error))
        return
    with transaction.atomic():
        if move(run, Status.SUCCEEDED, error="", progress=run.progress, **fields):
            close(attempt, JobState.SUCCEEDED)


def _collecting(run: Run) -> Progress:
    """Shows how much of the result has come, once a second; what the job reported last stays for the end."""
    shown = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown >= 1 and total:
            shown = time.monotonic()
            figures = {"done": done // MIB, "total": max(1, total // MIB), "percent": round(100 * done / total, 1)}
            note(run, progress={"step": "collect", **figures, "metrics": run.progress.get("metrics", {})})

    return show
