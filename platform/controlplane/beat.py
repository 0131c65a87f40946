"""Beat's scheduler: it says that it lives, and what is wrong with one row stops no other."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from django.db import DatabaseError
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

import workers.tasks  # noqa: F401 - what rows name: Celery's own import of tasks resets the log's levels
from controlplane.periodic import check
from datasets_app.text import plain
from workers.services.heartbeats import beat
from workers.services.notifications import notify


class Entry(ModelEntry):  # type: ignore[misc]
    """One row; what it has run in the future, by a clock that was ahead, it has run now."""

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        if model.last_run_at is not None:
            model.last_run_at = min(model.last_run_at, timezone.now())
        super().__init__(model, app=app)

    def save(self) -> None:
        """Write down when it ran, and nothing else: people may have edited the row, even to what cannot be saved."""
        row = PeriodicTask.objects.filter(pk=self.model.pk, enabled=True)
        row.update(last_run_at=self.model.last_run_at, total_run_count=self.model.total_run_count)


class Scheduler(DatabaseScheduler):  # type: ignore[misc]
    """The periodic tasks of the database, with a sign of life for `/ready`."""

    Entry = Entry
    _faults: dict[int, str] = {}
    _looked_at: datetime | None = None

    def tick(self, *args: object, **kwargs: object) -> float:
        """One look at what is due."""
        beat("beat")
        now, before = timezone.now(), self._looked_at
        if before is not None and now < before:  # the clock was set back: nothing is due by the old one's times
            self._last_full_sync = datetime.min
        self._looked_at = now
        wait: float = super().tick(*args, **kwargs)
        return wait

    def enabled_models(self) -> list[PeriodicTask]:
        """All: the library's query, for what is due soon, fails for all where one row has an unknown time zone."""
        return list(PeriodicTask.objects.filter(enabled=True))

    def all_as_schedule(self) -> dict[str, ModelEntry]:
        """Each row that can be run; any other is passed over, and told once."""
        entries, faults = {}, {}
        for task in self.enabled_models():
            try:
                check(task)
                entries[task.name] = self.Entry(task, app=self.app)
            except DatabaseError:
                raise
            except Exception as error:
                words = plain(str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")
                faults[task.pk] = words
                if self._faults.get(task.pk) != words:
                    self._tell(task, words)
        self._faults = faults
        return entries

    def _tell(self, task: PeriodicTask, words: str) -> None:
        text = f"Beat passes over the schedule {task.name}: {words} Correct it in the admin."
        with suppress(DatabaseError):  # the log has it
            notify(f"schedule-{task.pk}-{task.date_changed:%Y%m%d%H%M%S}", text, is_alert=True, schedule=task.name)
