"""Two processes walk through a simulated day of the schedule, at once."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

DAY = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(minutes=7)
WALKERS = 2


def walk_a_day() -> dict[str, Any]:
    """An hourly re-evaluation of what serves: slots that were due, and pipelines that were launched for them."""
    from django.db import connections
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    from workers.models import Pipeline, Slot
    from workers.services import run_due
    from workers.services.schedule import REEVALUATE

    _serve()
    PeriodicTask.objects.filter(task=REEVALUATE).delete()
    hourly, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    wish = '{"fresh_samples": 1}'
    PeriodicTask.objects.create(name="chaos-hourly", task=REEVALUATE, interval=hourly, kwargs=wish)
    run_due(DAY)
    connections.close_all()
    walkers = []
    for _ in range(WALKERS):
        pid = os.fork()
        if pid == 0:
            for number in range(1, timedelta(days=1) // STEP + 1):
                run_due(DAY + number * STEP)
            os._exit(0)
        walkers.append(pid)
    ended = [os.waitpid(pid, 0)[1] for pid in walkers]
    slots = Slot.objects.filter(schedule="chaos-hourly", at__gt=DAY)
    pipelines = Pipeline.objects.filter(kind=Pipeline.Kind.REEVALUATE)
    found = {"slots": slots.count(), "pipelines": pipelines.count(), "failed": sum(map(bool, ended))}
    _forget()
    return {"beats": WALKERS, "hours": 23, **found}  # the schedule began with the day's first


def _serve() -> None:
    """Rows of a router that serves; nothing is asked of it."""
    from adapters.models import Adapter, AdapterVersion, Alias, Stack
    from adapters.services import register_adapter
    from benchmarks.chaos.installation import KINDS

    def version(adapter: Adapter, labels: tuple[str, ...] = ()) -> AdapterVersion:
        card = {"kind": adapter.kind, "labels": list(labels)}
        return AdapterVersion.objects.create(
            adapter=adapter, number=1000, digest=adapter.name, size=0, card=card, facts={}
        )

    experts = [version(Adapter.objects.get(name=name)) for name in KINDS]
    router = version(register_adapter("router", kind=Adapter.Kind.ROUTER), KINDS)
    stack = Stack.objects.create(router=router, digest="chaos")
    stack.experts.set(experts)
    Alias.objects.create(name=Alias.Name.CHAMPION, stack=stack)


def _forget() -> None:
    """What was launched is not to be worked on."""
    from django_celery_beat.models import PeriodicTask

    from adapters.models import Alias
    from workers.models import Pipeline
    from workers.services.schedule import REEVALUATE

    PeriodicTask.objects.filter(task=REEVALUATE).delete()
    Pipeline.objects.all().delete()
    Alias.objects.all().delete()
