"""From the queue to a backend."""

from __future__ import annotations

import hashlib
import json

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from datasets_app.errors import InputError
from workers.compute import get_compute
from workers.compute.types import JobSpec
from workers.kinds import get_kind
from workers.models import Attempt, Run
from workers.selectors import newest_attempt
from workers.services.ending import drop, end, give_up
from workers.services.limits import ending, has_failed, limit
from workers.services.money import over_day
from workers.services.moves import LEASE, move, note, renew, take_note
from workers.services.reuse import fingerprint, take_result
from workers.states import UNSUCCESSFUL, Status

HELD_UP = "An earlier job of the same work is to be cancelled first, which its backend has not yet taken."


def start(run: Run) -> None:
    """Launch a queued run if what it builds on is there and its backend has room; or take an equal run's result."""
    if run.cancel_requested:
        move(run, Status.CANCELLED)
        return
    if not _is_next(run):
        return
    if not run.spec:
        try:
            resolved = get_kind(run.kind).resolve(run)
        except InputError as error:
            move(run, Status.FAILED, error=str(error))
            return
        settled = {"spec": resolved.spec, "inputs": resolved.inputs, "fingerprint": fingerprint(run.kind, resolved)}
        if not take_note(run, **settled):  # kept however long it waits
            return
    if run.reuse and take_result(run):
        return
    if _is_held_up(run):
        return
    if words := over_day(run.backend):
        move(run, Status.FAILED, error=words)
        return
    attempt = _take_slot(run)
    if attempt is not None:
        _submit(run, attempt)


def resume(run: Run) -> None:
    """Go on with a launch that was cut short; give up on one that has failed for too long."""
    attempt = newest_attempt(run)
    if attempt is None:
        return
    wanted = ending(run)
    if wanted is not None and wanted.to != Status.QUEUED:
        give_up(run, attempt, wanted.to, wanted.words)
    elif has_failed(run, "LAUNCH"):
        minutes = limit("LAUNCH").total_seconds() / 60
        words = f"It could not be launched for {minutes:.0f} min: {run.trouble}"
        give_up(run, attempt, Status.FAILED, words, "failed")
    elif renew(run, LEASE):
        _submit(run, attempt)


def _is_next(run: Run) -> bool:
    """Whether the step before has succeeded; where it never will, the run ends."""
    if run.pipeline is None or run.step == 0:
        return True
    before = run.pipeline.runs.filter(step=run.step - 1).order_by("-id").first()
    if before is None:
        move(run, Status.FAILED, error=f"The pipeline {run.pipeline.name!r} has no step before this one.")
        return False
    if before.status in UNSUCCESSFUL:
        move(run, Status.CANCELLED, error=f"Run {before.name!r}, which it builds on, {before.status}.")
    return before.status == Status.SUCCEEDED


def owed(backend: str) -> QuerySet[Attempt]:
    """Those whose jobs nobody waits for, and which the backend has not taken the cancel of."""
    return Attempt.objects.filter(cancel_due_at__isnull=False, run__backend=backend).exclude(outcome="")


def _is_held_up(run: Run) -> bool:
    """Whether a job of the same work that nobody waits for may still go on."""
    same_name = owed(run.backend).filter(run__name=run.name).select_related("run")
    held_up = any(work_key(attempt.run) == work_key(run) for attempt in same_name)
    if held_up or run.trouble == HELD_UP:
        note(run, trouble=HELD_UP if held_up else "")
    return held_up


def has_room(backend: str) -> bool:
    """Whether another job may run there; of a backend that is not configured, its runs say so."""
    return backend not in settings.COMPUTE or bool(_free_slots(backend))


def _free_slots(backend: str) -> list[int]:
    """Those in which the backend runs no job."""
    taken = set(Attempt.objects.filter(backend=backend, slot__isnull=False).values_list("slot", flat=True))
    return [slot for slot in range(settings.COMPUTE[backend]["SLOTS"]) if slot not in taken]


def _take_slot(run: Run) -> Attempt | None:
    """Move the run and record the attempt in a free slot of its backend; None if there is none or somebody was first.

    The database lets a slot be taken once, so that the limit holds however many processes launch.
    """
    free = _free_slots(run.backend)
    if not free:
        return None
    started = run.started_at or timezone.now()
    try:
        with transaction.atomic():
            if not move(run, Status.LAUNCHING, lease=LEASE, started_at=started, heartbeat_at=None):
                return None
            return Attempt.objects.create(run=run, number=run.attempts.count() + 1, backend=run.backend, slot=free[0])
    except IntegrityError:
        return None


def work_key(run: Run) -> str:
    """The same for every launch of the same work: a later try finds the checkpoints of an earlier one."""
    params = json.dumps([run.kind, run.params], sort_keys=True)
    return f"{run.name}-{hashlib.sha256(params.encode()).hexdigest()[:12]}"


def _submit(run: Run, attempt: Attempt) -> None:
    compute = get_compute(run.backend)
    try:
        handle = compute.submit(JobSpec(run.kind, attempt.launch_key, work_key(run), run.spec))
    except InputError as error:
        end(run, attempt, Status.FAILED, "failed", str(error))
        return
    if Attempt.objects.filter(pk=attempt.pk, outcome="").update(handle=handle, silences=0):
        move(run, Status.RUNNING, heartbeat_at=timezone.now())
    else:  # the launch was given up while this process stood still: nobody waits for the job
        Attempt.objects.filter(pk=attempt.pk).update(handle=handle, cancel_due_at=timezone.now())
        drop(attempt)
