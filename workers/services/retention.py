"""What is deleted in the end: job folders, checkpoints, datasets that nothing refers to any more.

Nothing is deleted that a live stack, a current version or a run under way came from, whatever its age.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import ProtectedError, Q
from django.utils import timezone

from adapters.models import Adapter, Alias, Promotion
from datasets_app.models import PreparedDataset, RoutingDataset, SourceDataset
from workers.kinds.outputs import PARTIAL
from workers.models import Attempt, Run
from workers.services.starting import work_key
from workers.states import ACTIVE, TERMINAL


@dataclass(frozen=True)
class Doomed:
    """Something to delete: a folder, and the row that says what lies in it, if there is one."""

    what: str
    folder: Path
    row: PreparedDataset | RoutingDataset | None = None

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())

    def delete(self) -> bool:
        """Delete row and folder; False if the row is still needed."""
        try:
            if self.row is not None:
                self.row.delete()
        except ProtectedError:
            return False
        shutil.rmtree(self.folder, ignore_errors=True)
        return True


def doomed(now: datetime | None = None) -> Iterator[Doomed]:
    """Everything that is older than `settings.RETENTION_DAYS` allows and that nothing needs."""
    now = now or timezone.now()
    days = {name: now - timedelta(days=count) for name, count in settings.RETENTION_DAYS.items()}
    root = Path(settings.DATA_ROOT)
    over = Run.objects.filter(status__in=TERMINAL)
    for attempt in Attempt.objects.filter(run__in=over, run__finished_at__lt=days["jobs"]).select_related("run"):
        for backend in ("jobs", "modal"):
            yield from _folder(f"job of {attempt}", root / backend / attempt.launch_key)
    active = {work_key(run) for run in Run.objects.filter(status__in=ACTIVE)}
    recent = {work_key(run) for run in over.filter(finished_at__gte=days["checkpoints"])}
    for run in over.filter(finished_at__lt=days["checkpoints"]):
        if work_key(run) not in active | recent:
            yield from _folder(f"checkpoints of {run}", root / "work" / work_key(run))
    kept = _datasets_in_use(days["datasets"])
    for prepared in PreparedDataset.objects.filter(created_at__lt=days["datasets"]):
        if prepared.pk not in kept[1]:
            yield from _folder(f"prepared dataset {prepared}", Path(prepared.path), prepared)
    for dataset in RoutingDataset.objects.filter(created_at__lt=days["datasets"]):
        if dataset.pk not in kept[0]:
            yield from _folder(f"routing dataset {dataset}", Path(dataset.path), dataset)
    in_use = set(SourceDataset.objects.values_list("path", flat=True))
    for copy in root.glob("sources/[!.]*"):
        if str(copy) not in in_use and copy.stat().st_mtime < days["datasets"].timestamp():
            yield from _folder(f"an earlier copy of a source dataset, {copy.name}", copy)
    for scratch in root.glob(f"*/{PARTIAL}*"):
        if scratch.stat().st_mtime < days["jobs"].timestamp():
            yield from _folder("what a killed process left", scratch)


def prune(*, dry_run: bool) -> list[Doomed]:
    """Delete what is doomed, or only list it."""
    return [item for item in list(doomed()) if dry_run or item.delete()]


def _folder(what: str, folder: Path, row: PreparedDataset | RoutingDataset | None = None) -> Iterable[Doomed]:
    """Only what lies in our own data folder is ours to delete."""
    inside = folder.resolve().is_relative_to(Path(settings.DATA_ROOT).resolve())
    return [Doomed(what, folder, row)] if inside and (folder.is_dir() or row is not None) else []


def _datasets_in_use(since: datetime) -> tuple[set[int], set[int]]:
    """Rows of routing and prepared datasets that something refers to: what serves or has served, what is the current
    version of an adapter, and every run under way or not long over."""
    promotions = Promotion.objects.select_related("stack")
    stacks = [made.stack for made in promotions] + [alias.stack for alias in Alias.objects.select_related("stack")]
    versions = {stack.router_id for stack in stacks}
    versions |= {expert.pk for stack in stacks for expert in stack.experts.all()}
    versions |= {pk for pk in Adapter.objects.values_list("current", flat=True) if pk is not None}
    evaluations = {made.evaluation_id for made in promotions if made.evaluation_id is not None}
    young = Q(status__in=ACTIVE) | Q(finished_at__gte=since) | Q(created_at__gte=since)
    runs = Run.objects.filter(Q(adapter_version__in=versions) | Q(evaluation__in=evaluations) | young)
    names = {str(run.params[key]) for run in runs for key in ("dataset",) if run.params.get(key)} | {
        run.name for run in runs
    }
    routing = set(
        RoutingDataset.objects.filter(Q(name__in=names) | Q(runs__name__in=names)).values_list("pk", flat=True)
    )
    sources = PreparedDataset.objects.filter(source_dataset__name__in=names)
    prepared = set(PreparedDataset.objects.filter(routing_dataset__in=routing).values_list("pk", flat=True))
    return routing, prepared | set(sources.values_list("pk", flat=True))
