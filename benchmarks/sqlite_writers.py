"""`python -m benchmarks.sqlite_writers [--seconds 600]`: 24 processes move runs in one SQLite file.

Counts "database is locked" and prints the percentiles of one move, a conditional UPDATE in a transaction of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "sqlite_writers.json"
WRITERS = 24
PAUSE = 0.02  # seconds between two writes of a writer: a busy installation, not a flood


def set_up(data: str) -> None:
    """Django on the data folder."""
    os.environ |= {"SWITCHYARD_DATA": data, "DJANGO_SETTINGS_MODULE": "controlplane.settings"}
    import django

    django.setup()


def write(data: str, number: int, seconds: float, results: Any) -> None:
    """Move a run to and fro; put the seconds of each move and the number of errors."""
    set_up(data)
    from django.db import OperationalError

    from workers.models import Run
    from workers.services.moves import move
    from workers.states import Status

    run = Run.objects.create(name=f"run-{number}", kind=Run.Kind.TRAIN, backend="local")
    times, errors, until = [], 0, time.monotonic() + seconds
    while time.monotonic() < until:
        to = Status.LAUNCHING if run.status == Status.QUEUED else Status.QUEUED
        started = time.perf_counter()
        try:
            move(run, to)
        except OperationalError:
            errors += 1
        times.append(time.perf_counter() - started)
        time.sleep(PAUSE)
    results.put((times, errors))


def main() -> int:
    """Run the writers; 1 if one met a locked database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="switchyard-writers-") as data:
        set_up(data)
        from django.core.management import call_command
        from django.db import connections

        call_command("migrate", verbosity=0)
        connections.close_all()
        fork = multiprocessing.get_context("fork")
        results: Any = fork.Queue()
        writers = [fork.Process(target=write, args=(data, n, seconds, results)) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        found = [results.get() for _ in writers]
        for writer in writers:
            writer.join()
    times = sorted(moment for moments, _ in found for moment in moments)
    errors = sum(count for _, count in found)
    share = {f"p{q}_ms": round(1000 * times[min(len(times) - 1, len(times) * q // 100)], 1) for q in (50, 95, 99)}
    result = json.dumps({"writers": WRITERS, "seconds": seconds, "writes": len(times), "locked": errors, **share})
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(result + "\n")
    print(result)
    return int(errors > 0)


if __name__ == "__main__":
    sys.exit(main())
