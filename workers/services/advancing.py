"""One step of every run that is due: launch, poll, finalise. Any number of processes may do this at once."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from datasets_app.errors import InputError
from workers.compute import get_compute
from workers.compute.types import ComputeUnavailable, JobSpec, JobState, JobStatus
from workers.kinds import get_kind
from workers.models import Attempt, Run
from workers.recipes.manifest import ManifestError
from workers.services.money import cost
from workers.services.moves import move, renew
from workers.states import ACTIVE, ON_COMPUTE, UNSUCCESSFUL, Status

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)  # longer than any task may live
BACKOFF = (timedelta(seconds=5), timedelta(minutes=5))  # the first wait for a backend that does not answer, the longest
MAX_ATTEMPTS = 3


def advance_all() -> int:
    """Take every run that is not over one step on; how many there were."""
    runs = list(
        Run.objects.filter(status__in=ACTIVE)
        .filter(Q(lease_until__isnull=True) | Q(lease_until__lt=timezone.now()))
        .order_by("id")
    )
    silent: set[str] = set()
    for run in runs:
        if run.backend in silent:
            continue  # it takes long to find out that a backend does not answer
        try:
            advance(run)
        except ComputeUnavailable as error:
            silent.add(run.backend)
            _ask_later(run, str(error))
        except Exception:
            log.exception("Run %s could not be taken a step on; the next round tries again.", run.name)
    return len(runs)


def _ask_later(run: Run, error: str) -> None:
    """Leave the run as it is, with the reason, and ask again after a while that doubles each time."""
    attempt = run.attempts.latest("number")
    if overdue := _overdue(run, attempt):
        _end(run, attempt, Status.FAILED, JobStatus(JobState.FAILED, error=f"{overdue} {error}"))
        return
    least, most = BACKOFF
    wait = min(least * 2 ** min(attempt.silences, 10), most)
    Attempt.objects.filter(pk=attempt.pk).update(silences=F("silences") + 1)
    Run.objects.filter(pk=run.pk, version=run.version).update(error=error, lease_until=timezone.now() + wait)
    log.warning("Run %s: %s Asked again in %.0f s.", run.name, error, wait.total_seconds())


def advance(run: Run) -> None:
    """Take one run a step on; harmless to repeat."""
    match Status(run.status):
        case Status.QUEUED:
            _start(run)
        case Status.LAUNCHING:
            if renew(run, LEASE):  # whoever launched it is gone
                _submit(run, run.attempts.get(number=run.attempts.count()))
        case Status.RUNNING:
            _follow(run)
        case Status.FINALIZING:
            if renew(run, LEASE):
                _finalize(run)


def _start(run: Run) -> None:
    if run.cancel_requested:
        move(run, Status.CANCELLED)
        return
    if run.pipeline_id is not None and run.step > 0:
        before = run.pipeline.runs.filter(step=run.step - 1).latest("id")  # type: ignore[union-attr]
        if before.status in UNSUCCESSFUL:
            move(run, Status.CANCELLED, error=f"Run {before.name!r}, which it builds on, {before.status}.")
            return
        if before.status != Status.SUCCEEDED:
            return
    if not run.spec:
        try:
            module = get_kind(run.kind)
            resolved = module.resolve(module.Params.model_validate(run.params))
        except InputError as error:
            move(run, Status.FAILED, error=str(error))
            return
        run.spec, run.inputs = resolved.spec, resolved.inputs
    with transaction.atomic():
        busy = Run.objects.filter(backend=run.backend, status__in=ON_COMPUTE).count()
        if busy >= settings.COMPUTE[run.backend]["SLOTS"]:
            return
        started = run.started_at or timezone.now()
        if not move(run, Status.LAUNCHING, lease=LEASE, spec=run.spec, inputs=run.inputs, started_at=started):
            return
        attempt = Attempt.objects.create(run=run, number=run.attempts.count() + 1)
    _submit(run, attempt)


def work_key(run: Run) -> str:
    """The same for every launch of the same work: a later try finds the checkpoints of an earlier one."""
    params = json.dumps([run.kind, run.params], sort_keys=True)
    return f"{run.name}-{hashlib.sha256(params.encode()).hexdigest()[:12]}"


def _submit(run: Run, attempt: Attempt) -> None:
    job = JobSpec(run.kind, attempt.launch_key, work_key(run), run.spec)
    try:
        handle = get_compute(run.backend).submit(job)
    except InputError as error:
        _end(run, attempt, Status.FAILED, JobStatus(JobState.FAILED, error=str(error)))
        return
    Attempt.objects.filter(pk=attempt.pk).update(handle=handle, silences=0)
    move(run, Status.RUNNING, error="")


def _follow(run: Run) -> None:
    attempt = run.attempts.latest("number")
    compute = get_compute(run.backend)
    if run.cancel_requested:
        compute.cancel(attempt.handle)
    job = compute.poll(attempt.handle)
    if job.handle or attempt.silences:
        attempt.handle, attempt.silences = job.handle or attempt.handle, 0
        attempt.save(update_fields=["handle", "silences"])
        Run.objects.filter(pk=run.pk, version=run.version).update(error="")
    if job.progress and job.progress != run.progress:
        Run.objects.filter(pk=run.pk, version=run.version).update(progress=job.progress)
    match job.state:
        case JobState.PENDING | JobState.RUNNING:
            _wait(run, attempt)
        case JobState.SUCCEEDED:
            if move(run, Status.FINALIZING, lease=LEASE, summary=job.summary):
                Attempt.objects.filter(pk=attempt.pk).update(cost=cost(run.kind, run.backend, job.seconds))
                _finalize(run)
        case JobState.FAILED:
            _end(run, attempt, Status.FAILED, job)
        case JobState.CANCELLED:
            _end(run, attempt, Status.CANCELLED, job)
        case JobState.LOST:
            _lost(run, attempt, job)


def _wait(run: Run, attempt: Attempt) -> None:
    """Look again after the backend's interval; end a job that is past its deadline."""
    if overdue := _overdue(run, attempt):
        get_compute(run.backend).cancel(attempt.handle)
        _end(run, attempt, Status.FAILED, JobStatus(JobState.FAILED, error=overdue))
    elif interval := settings.COMPUTE[run.backend].get("POLL"):
        Run.objects.filter(pk=run.pk, version=run.version).update(lease_until=timezone.now() + interval)


def _overdue(run: Run, attempt: Attempt) -> str:
    """What to say of an attempt that is older than its backend allows; '' of one that is not."""
    limit = settings.COMPUTE[run.backend].get("DEADLINE")
    if limit is None or timezone.now() <= attempt.created_at + limit:
        return ""
    return f"The job had not ended {limit.total_seconds() / 3600:g} h after its launch and was given up."


def _end(run: Run, attempt: Attempt, status: Status, job: JobStatus) -> None:
    with transaction.atomic():
        if move(run, status, error=job.error):
            _close(attempt, job)


def _lost(run: Run, attempt: Attempt, job: JobStatus) -> None:
    if run.cancel_requested:
        _end(run, attempt, Status.CANCELLED, job)
    elif attempt.number >= MAX_ATTEMPTS:
        _end(run, attempt, Status.FAILED, job)
    else:
        with transaction.atomic():
            if move(run, Status.QUEUED):
                _close(attempt, job)


def _close(attempt: Attempt, job: JobStatus) -> None:
    fields: dict[str, Any] = {"outcome": job.state, "error": job.error, "ended_at": timezone.now()}
    if job.seconds:
        fields["cost"] = cost(attempt.run.kind, attempt.run.backend, job.seconds)
    Attempt.objects.filter(pk=attempt.pk).update(**fields)


def _finalize(run: Run) -> None:
    attempt = run.attempts.latest("number")
    try:
        outputs = get_compute(run.backend).outputs(attempt.handle)
        fields = get_kind(run.kind).finalize(run, outputs)
    except (InputError, ManifestError) as error:
        _end(run, attempt, Status.FAILED, JobStatus(JobState.FAILED, error=str(error)))
        return
    with transaction.atomic():
        if move(run, Status.SUCCEEDED, error="", **fields):
            _close(attempt, JobStatus(JobState.SUCCEEDED))
