"""`python -m benchmarks.reconcile`: what a round costs where 1,000 jobs run, 5,000 runs wait and nothing moves.

The jobs are those of the backend `local`, as folders whose claims this process has locked. Prints the median of five
rounds beside the bounds, and writes it to `benchmarks/results/reconcile.json`.
"""

from __future__ import annotations

import fcntl
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from benchmarks.sqlite_writers import set_up

RESULT = Path(__file__).parent / "results" / "reconcile.json"
ACTIVE, QUEUED = 1_000, 5_000
STEPS = 4  # of a pipeline; half of the queue are pipelines
ROUNDS = 5
MAX_CPU_SECONDS, MAX_QUERIES = 2.0, 60


def populate(active: int, queued: int, backend: str = "local") -> list[str]:
    """Rows of runs with jobs at work, one a slot, and of a queue: runs alone, and pipelines none of whose steps has
    begun. The launch keys of the jobs."""
    from django.utils import timezone

    from workers.models import Attempt, Pipeline, Run
    from workers.states import Status

    common = {"kind": Run.Kind.TRAIN, "backend": backend, "params": {"dataset": "a"}, "spec": {"data": "/nowhere"}}
    now = timezone.now()
    looked = dict.fromkeys(("moved_at", "heartbeat_at", "seen_at", "started_at"), now)
    at_work = [Run(name=f"active-{n}", status=Status.RUNNING, **common, **looked) for n in range(active)]
    runs = Run.objects.bulk_create(at_work, batch_size=500)
    attempts = [Attempt(run=run, number=1, backend=backend, slot=slot) for slot, run in enumerate(runs)]
    for attempt in attempts:
        attempt.handle = attempt.launch_key
    Attempt.objects.bulk_create(attempts, batch_size=500)
    alone = [Run(name=f"queued-{n}", **common) for n in range(queued - queued // 2)]
    kind = Pipeline.Kind.ROUTER
    names = [f"pipeline-{n}" for n in range(queued // 2 // STEPS)]
    pipelines = Pipeline.objects.bulk_create([Pipeline(name=name, kind=kind) for name in names], batch_size=500)
    steps = [
        Run(name=f"{pipeline.name}-{step}", pipeline=pipeline, step=step, **common)
        for pipeline in pipelines
        for step in range(STEPS)
    ]
    Run.objects.bulk_create([*alone, *steps], batch_size=500)
    return [attempt.launch_key for attempt in attempts]


def work_on(root: Path, key: str) -> TextIO:
    """Make the folder of a job at work; its claim, locked as long as it is open."""
    folder = root / key
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    claim = (folder / "claim").open("w")
    claim.write('{"pid": 1}')
    claim.flush()
    fcntl.flock(claim, fcntl.LOCK_EX)
    return claim


def main() -> int:
    """Measure; 1 if a bound is not kept."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (ACTIVE + 500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with tempfile.TemporaryDirectory(prefix="switchyard-reconcile-") as data:
        set_up(data)
        from django.conf import settings
        from django.core.management import call_command
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        from workers.services import advance_all

        call_command("migrate", verbosity=0)
        settings.COMPUTE["local"]["SLOTS"] = ACTIVE
        root = Path(settings.COMPUTE["local"]["OPTIONS"]["root"])
        claims = [work_on(root, key) for key in populate(ACTIVE, QUEUED)]
        cpu = []
        for _ in range(ROUNDS):
            began = time.process_time()
            advance_all()
            cpu.append(time.process_time() - began)
        with CaptureQueriesContext(connection) as captured:
            advance_all()
        connection.close()
        for claim in claims:
            claim.close()
    found = {
        "active": ACTIVE,
        "queued": QUEUED,
        "cpu_seconds": round(statistics.median(cpu), 3),
        "max_cpu_seconds": MAX_CPU_SECONDS,
        "queries": len(captured),
        "max_queries": MAX_QUERIES,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return int(found["cpu_seconds"] > MAX_CPU_SECONDS or found["queries"] > MAX_QUERIES)


if __name__ == "__main__":
    sys.exit(main())
