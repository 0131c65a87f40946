"""Beat's scheduler, which says that it lives."""

from __future__ import annotations

from django_celery_beat.schedulers import DatabaseScheduler

from workers.services.heartbeats import beat


class Scheduler(DatabaseScheduler):  # type: ignore[misc]
    """The periodic tasks of the database, with a sign of life for `/ready`."""

    def tick(self, *args: object, **kwargs: object) -> float:
        """One look at what is due."""
        beat("beat")
        wait: float = super().tick(*args, **kwargs)
        return wait
