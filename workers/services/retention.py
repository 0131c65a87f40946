"""What is deleted in the end: job folders, checkpoints, datasets, records that nothing refers to any more.

Nothing is deleted that serves or has served, that is the current version of an adapter, that these came from, or that
a run under way needs, whatever its age.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from axes.models import AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Max, Model, QuerySet

from adapters.models import Evaluation
from datasets_app.locks import held
from datasets_app.models import PreparedDataset, RoutingDataset, SourceDataset
from workers.kinds.outputs import PARTIAL
from workers.models import Alert, Attempt, Pipeline, Run, Slot
from workers.services.looking import Look
from workers.services.starting import work_key
from workers.states import TERMINAL

log = logging.getLogger(__name__)

BATCH = 100  # rows that are read together, and looked at again and deleted in one transaction

LINES = 1000  # rows of a log that are deleted together

Row = TypeVar("Row", bound=Model)

HEAVY = ("summary", "spec")  # some MB a run


@dataclass(frozen=True)
class Doomed:
    """Something to delete: a folder, and the row that says what lies in it, or either alone; or many small rows.

    `is_due` looks whether it still is; between the list and the deletion somebody may have come to need it.
    """

    what: str
    folder: Path | None = None
    row: Model | QuerySet[Any] | None = None
    is_due: Callable[[Look], bool] = lambda look: True

    def delete_row(self) -> bool:
        """False if something refers to the row."""
        try:
            with transaction.atomic():
                if self.row is not None:
                    self.row.delete()
        except IntegrityError:
            return False
        return True


def doomed(now: datetime | None = None) -> Iterator[Doomed]:
    """Everything that is older than `settings.RETENTION_DAYS` allows and that nothing needs."""
    look = Look(now)
    # Datasets come after the runs, which stay for as long as these are there: what is deleted is what was listed.
    for part in (
        _jobs,
        _checkpoints,
        _evaluations,
        _pipelines,
        _runs,
        _alerts,
        _slots,
        _datasets,
        _copies,
        _scratch,
        _logs,
    ):
        try:
            yield from part(look)
        except (OSError, DatabaseError):
            log.exception("Not all that is old could be listed; the rest goes on.")


def prune(*, dry_run: bool) -> Iterator[tuple[str, int]]:
    """Delete what is doomed, or only list it, as far as the caller goes: what it is, and the bytes of its files."""
    items = doomed()
    while batch := list(islice(items, BATCH)):
        yield from ((item.what, _size(item.folder)) for item in batch) if dry_run else delete(batch)


def delete(items: list[Doomed]) -> list[tuple[str, int]]:
    """Delete what is not needed after all: the rows in the transaction that looks again, then the folders. What went,
    and the bytes of its files."""
    with transaction.atomic():
        look = Look()
        gone = [item for item in items if item.is_due(look) and item.delete_row()]
    aside = []
    for item in gone:  # before any file is deleted, which takes long: nothing leads to these folders any more
        try:
            aside.append((item.what, _put_aside(item.folder)))
        except OSError as error:
            log.warning("%s stays: %s", item.folder, error)
    return [(what, _remove(folder)) for what, folder in aside]


def _put_aside(folder: Path | None) -> Path | None:
    """Rename the folder, and say how it is called then; OSError if that fails, or a job holds its lock: one that nobody
    waits for may still be at work."""
    if folder is None or not folder.exists():
        return None
    aside = folder.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    with held(folder / ".lock"):
        folder.rename(aside)  # in one step: a job that begins now finds all of it or nothing
    return aside


def _remove(folder: Path | None) -> int:
    size = _size(folder)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return size


def _size(folder: Path | None) -> int:
    files = folder.rglob("*") if folder else ()
    return sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink())


def _is_ours(folder: Path) -> bool:
    """Only what lies in our own data folder is ours to delete."""
    return folder.resolve().is_relative_to(Path(settings.DATA_ROOT).resolve())


def _rows(rows: QuerySet[Row], keys: Iterable[int]) -> Iterator[Row]:
    """The rows with these keys, some at a time: no statement stays open while what it reads is deleted."""
    ordered = sorted(keys)
    for start in range(0, len(ordered), BATCH):
        yield from rows.filter(pk__in=ordered[start : start + BATCH])


def _still(row: Model, going: Callable[[Look], set[int]]) -> Callable[[Look], bool]:
    """Whether the row is among those that go."""
    key = row.pk
    return lambda look: key in going(look)


def _jobs(look: Look) -> Iterator[Doomed]:
    over = Attempt.objects.filter(run__status__in=TERMINAL, run__finished_at__lt=look.before["jobs"])
    over = over.select_related("run").only("number", "run__name")
    for backend in ("jobs", "modal"):
        for folder in _folders(backend):
            if attempt := over.filter(launch_key=folder.name).first():
                yield Doomed(f"job of {attempt}", folder)


def _checkpoints(look: Look) -> Iterator[Doomed]:
    """Of runs that nobody has tried again, or not for long."""
    for folder in _folders("work"):
        name = folder.name.rpartition("-")[0]

        def is_due(look: Look, folder: Path = folder, name: str = name) -> bool:
            tries = [run for run in Run.objects.filter(name=name).defer(*HEAVY) if work_key(run) == folder.name]
            ends = [run.finished_at for run in tries if run.is_over]
            return (
                bool(tries)
                and len(ends) == len(tries)
                and all(end and end < look.before["checkpoints"] for end in ends)
            )

        if is_due(look):
            yield Doomed(f"checkpoints of {name}", folder, is_due=is_due)


def _folders(kind: str) -> list[Path]:
    return sorted(folder for folder in (Path(settings.DATA_ROOT) / kind).glob("[!.]*") if folder.is_dir())


def _evaluations(look: Look) -> Iterator[Doomed]:
    for row in _rows(Evaluation.objects.all(), look.evaluations):
        if _is_ours(folder := Path(row.path)):
            yield Doomed(f"evaluation {row}", folder, row, _still(row, lambda look: look.evaluations))


def _pipelines(look: Look) -> Iterator[Doomed]:
    lengths = Counter(look.pipeline_of.values())
    for row in _rows(Pipeline.objects.all(), look.pipelines):
        what = f"pipeline {row}, {lengths[row.pk]} runs"
        yield Doomed(what, row=row, is_due=_still(row, lambda look: look.pipelines))


def _runs(look: Look) -> Iterator[Doomed]:
    for row in _rows(Run.objects.filter(pipeline=None).defer(*HEAVY), look.runs):
        yield Doomed(f"run {row}", row=row, is_due=_still(row, lambda look: look.runs))


def _alerts(look: Look) -> Iterator[Doomed]:
    """Their notifications go with them."""
    old = Alert.objects.filter(created_at__lt=look.before["records"])
    for row in _rows(Alert.objects.all(), old.values_list("pk", flat=True)):
        yield Doomed(f"alert {row.key}", row=row)


def _slots(look: Look) -> Iterator[Doomed]:
    # The schedule counts from its newest one.
    newest = Slot.objects.order_by().values("schedule").annotate(at=Max("at")).values("at")
    old = Slot.objects.filter(at__lt=look.before["records"]).exclude(at__in=newest)
    for row in _rows(Slot.objects.all(), old.values_list("pk", flat=True)):
        yield Doomed(f"slot {row}", row=row)


def _datasets(look: Look) -> Iterator[Doomed]:
    for prepared in _rows(PreparedDataset.objects.all(), look.datasets[PreparedDataset]):
        if _is_ours(folder := Path(prepared.path)):
            is_due = _still(prepared, lambda look: look.datasets[PreparedDataset])
            yield Doomed(f"prepared dataset {prepared}", folder, prepared, is_due)
    for routing in _rows(RoutingDataset.objects.all(), look.datasets[RoutingDataset]):
        if _is_ours(folder := Path(routing.path)):
            is_due = _still(routing, lambda look: look.datasets[RoutingDataset])
            yield Doomed(f"routing dataset {routing}", folder, routing, is_due)


def _logs(look: Look) -> Iterator[Doomed]:
    """Of what Django and axes keep of people: sessions that are over, log-ins, changes in the admin."""
    before = look.before["records"]
    for rows in (
        Session.objects.filter(expire_date__lt=look.now),
        AccessLog.objects.filter(attempt_time__lt=before),
        AccessFailureLog.objects.filter(attempt_time__lt=before),
        LogEntry.objects.filter(action_time__lt=before),
    ):
        keys = list(rows.order_by().values_list("pk", flat=True))
        for start in range(0, len(keys), LINES):
            some = keys[start : start + LINES]
            yield Doomed(f"{rows.model._meta.verbose_name}: {len(some)} rows", row=rows.filter(pk__in=some))


def _copies(look: Look) -> Iterator[Doomed]:
    in_use = set(SourceDataset.objects.values_list("path", flat=True))
    for copy in _folders("sources"):
        if str(copy) not in in_use and copy.stat().st_mtime < look.before["datasets"].timestamp():
            yield Doomed(f"an earlier copy of a source dataset, {copy.name}", copy)


def _scratch(look: Look) -> Iterator[Doomed]:
    for scratch in sorted(Path(settings.DATA_ROOT).glob(f"*/{PARTIAL}*")):
        if scratch.stat().st_mtime < look.before["jobs"].timestamp():
            yield Doomed("what a killed process left", scratch)
