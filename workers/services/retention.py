"""What is deleted in the end: job folders, checkpoints, datasets, records that nothing refers to any more.

Nothing is deleted that serves or has served, that is the current version of an adapter, that these came from, or that
a run under way needs, whatever its age.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Model, ProtectedError, Q, QuerySet
from django.utils import timezone

from adapters.models import Adapter, Alias, Evaluation, Promotion
from datasets_app.models import PreparedDataset, RoutingDataset, SourceDataset
from workers.kinds.outputs import PARTIAL
from workers.models import Attempt, Notice, Pipeline, Run, Slot
from workers.services.starting import work_key
from workers.states import ACTIVE, TERMINAL

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Doomed:
    """Something to delete: a folder, and the row that says what lies in it, or either alone.

    `is_due` looks whether it still is; between the list and the deletion somebody may have come to need it.
    """

    what: str
    folder: Path | None = None
    row: Model | None = None
    is_due: Callable[[], bool] = lambda: True

    @property
    def size(self) -> int:
        """Bytes of its files."""
        files = self.folder.rglob("*") if self.folder else ()
        return sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink())

    def delete(self) -> bool:
        """Delete row and folder; False if they are needed after all."""
        try:
            with transaction.atomic():
                if not self.is_due():
                    return False
                if self.row is not None:
                    self.row.delete()
        except ProtectedError:
            return False
        return self.folder is None or _remove(self.folder)


def doomed(now: datetime | None = None) -> Iterator[Doomed]:
    """Everything that is older than `settings.RETENTION_DAYS` allows and that nothing needs."""
    now = now or timezone.now()
    days = {name: now - timedelta(days=count) for name, count in settings.RETENTION_DAYS.items()}
    yield from _jobs(days["jobs"])
    yield from _checkpoints(days["checkpoints"])
    yield from _datasets(days["datasets"])
    yield from _records(min(days.values()))  # a record is the way to its files: it goes last
    for scratch in Path(settings.DATA_ROOT).glob(f"*/{PARTIAL}*"):
        if scratch.stat().st_mtime < days["jobs"].timestamp():
            yield Doomed("what a killed process left", scratch)


def prune(*, dry_run: bool) -> list[Doomed]:
    """Delete what is doomed, or only list it."""
    return [item for item in list(doomed()) if dry_run or item.delete()]


def _remove(folder: Path) -> bool:
    """Delete a folder; False if that fails, or a job holds its lock: one that nobody waits for may still be at work."""
    aside = folder.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    try:
        with _locked(folder):
            folder.rename(aside)  # in one step: a job that begins now finds all of it or nothing
    except FileNotFoundError:
        return True
    except OSError as error:
        log.warning("%s stays: %s", folder, error)
        return False
    shutil.rmtree(aside, ignore_errors=True)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock that a job holds while it works in the folder, if there is one; BlockingIOError if one does."""
    try:
        lock = os.open(folder / ".lock", os.O_RDWR)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _is_ours(folder: Path) -> bool:
    """Only what lies in our own data folder is ours to delete."""
    return folder.resolve().is_relative_to(Path(settings.DATA_ROOT).resolve())


def _jobs(before: datetime) -> Iterator[Doomed]:
    over = Attempt.objects.filter(run__status__in=TERMINAL, run__finished_at__lt=before)
    for attempt in over.select_related("run"):
        for backend in ("jobs", "modal"):
            folder = Path(settings.DATA_ROOT) / backend / attempt.launch_key
            if folder.is_dir():
                yield Doomed(f"job of {attempt}", folder)


def _checkpoints(before: datetime) -> Iterator[Doomed]:
    """Of runs that nobody has tried again, or not for long."""
    seen: set[Path] = set()
    for run in Run.objects.filter(status__in=TERMINAL, finished_at__lt=before):
        folder = Path(settings.DATA_ROOT) / "work" / work_key(run)
        if folder in seen or not folder.is_dir():
            continue
        seen.add(folder)
        tries = Run.objects.filter(Q(status__in=ACTIVE) | Q(finished_at__gte=before), name=run.name)

        def is_due(key: str = work_key(run), tries: QuerySet[Run] = tries) -> bool:
            return all(work_key(other) != key for other in tries.all())

        if is_due():
            yield Doomed(f"checkpoints of {run}", folder, is_due=is_due)


def _datasets(before: datetime) -> Iterator[Doomed]:
    kept = _datasets_in_use(before)
    for model, what in ((PreparedDataset, "prepared dataset"), (RoutingDataset, "routing dataset")):
        for row in model._default_manager.filter(created_at__lt=before).exclude(pk__in=kept[model]):

            def is_due(row: PreparedDataset | RoutingDataset = row) -> bool:
                return row.pk not in _datasets_in_use(before)[type(row)]

            if _is_ours(folder := Path(row.path)):
                yield Doomed(f"{what} {row}", folder, row, is_due)
    in_use = set(SourceDataset.objects.values_list("path", flat=True))
    for copy in Path(settings.DATA_ROOT).glob("sources/[!.]*"):
        if str(copy) not in in_use and copy.stat().st_mtime < before.timestamp():
            yield Doomed(f"an earlier copy of a source dataset, {copy.name}", copy)


def _datasets_in_use(since: datetime) -> dict[type[Model], set[int]]:
    """Rows of routing and prepared datasets that something refers to: evidence, and every run under way or not long
    over."""
    young = Q(status__in=ACTIVE) | Q(finished_at__gte=since) | Q(created_at__gte=since)
    runs = Run.objects.filter(Q(pk__in=_evidence()) | young)
    names = {str(run.params["dataset"]) for run in runs if run.params.get("dataset")} | {run.name for run in runs}
    routing = set(
        RoutingDataset.objects.filter(Q(name__in=names) | Q(runs__name__in=names)).values_list("pk", flat=True)
    )
    prepared = PreparedDataset.objects.filter(Q(routing_dataset__in=routing) | Q(source_dataset__name__in=names))
    return {RoutingDataset: routing, PreparedDataset: set(prepared.values_list("pk", flat=True))}


def _evidence() -> set[int]:
    """Runs that made or evaluated what serves or has served, with its experts, or the current version of an adapter,
    and every other run of their pipelines: what the verdict was founded on. Of re-evaluations only those that led to a
    rollback."""
    stacks = {made.stack for made in Promotion.objects.select_related("stack")}
    stacks |= {alias.stack for alias in Alias.objects.select_related("stack")}
    versions = {stack.router_id for stack in stacks}
    versions |= {expert.pk for stack in stacks for expert in stack.experts.all()}
    versions |= {pk for pk in Adapter.objects.values_list("current", flat=True) if pk is not None}
    figures = Promotion.objects.filter(evaluation__isnull=False).values("evaluation")
    watching = Q(pipeline__kind=Pipeline.Kind.REEVALUATE)
    made = Run.objects.filter(
        Q(adapter_version__in=versions)
        | Q(evaluation__in=figures)
        | Q(evaluation__version__in=versions) & ~watching
        | Q(pipeline__promoted__isnull=False)
    )
    pipelines = set(made.values_list("pipeline", flat=True))
    kept = set(Run.objects.filter(Q(pk__in=made.values("pk")) | Q(pipeline__in=pipelines)).values_list("pk", flat=True))
    reused = Run.objects.filter(reused_by__in=kept)
    return kept | set(reused.values_list("pk", flat=True))


def _records(before: datetime) -> Iterator[Doomed]:
    """Runs with their attempts and evaluations, pipelines with their runs, slots, notices.

    A run whose dataset is still there stays as well: it says how the dataset was made.
    """
    old = Run.objects.filter(status__in=TERMINAL, finished_at__lt=before)
    old = old.filter(routing_dataset=None, prepared_dataset=None)

    def spare() -> QuerySet[Run]:
        return old.exclude(pk__in=_evidence())

    spared = spare()
    pipelines = Pipeline.objects.exclude(outcome="").filter(finished_at__lt=before, promoted=None)
    for pipeline in pipelines.exclude(runs__in=Run.objects.exclude(pk__in=spared.values("pk"))):
        runs = list(pipeline.runs.all())

        def is_due(pipeline: Pipeline = pipeline) -> bool:
            return not pipeline.runs.exclude(pk__in=spare().values("pk")).exists()

        yield from _evaluations(runs, is_due)
        yield Doomed(f"pipeline {pipeline}, {len(runs)} runs", row=pipeline, is_due=is_due)
    for run in spared.filter(pipeline=None):

        def is_spare(run: Run = run) -> bool:
            return spare().filter(pk=run.pk).exists()

        yield from _evaluations([run], is_spare)
        yield Doomed(f"run {run}", row=run, is_due=is_spare)
    for notice in Notice.objects.filter(created_at__lt=before):
        yield Doomed(f"notice {notice}", row=notice)
    newest = Slot.objects.values("schedule").annotate(at=Max("at")).values("at")  # the schedule counts from there
    for slot in Slot.objects.filter(at__lt=before).exclude(at__in=newest):
        yield Doomed(f"slot {slot}", row=slot)


def _evaluations(runs: list[Run], is_due: Callable[[], bool]) -> Iterator[Doomed]:
    """Of these runs alone: not what another one has reused."""
    for evaluation in Evaluation.objects.filter(runs__in=runs).distinct():
        if not evaluation.runs.exclude(pk__in=[run.pk for run in runs]).exists() and _is_ours(Path(evaluation.path)):
            yield Doomed(f"evaluation {evaluation}", Path(evaluation.path), evaluation, is_due)
