"""What is asked often finds its rows by an index, however many have gathered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.cast import make_run
from workers.models import Pipeline, Run
from workers.selectors import get_run
from workers.services import advance_all, launch
from workers.services.money import estimate, spent_today
from workers.states import Status

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        connection.vendor != "sqlite", reason="PostgreSQL plans by statistics: a small table is scanned"
    ),
]


@contextmanager
def plans() -> Iterator[list[str]]:
    """The steps of SQLite's plan for each query in the block, as it is asked: with parameters."""
    steps: list[str] = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if sql.startswith("SELECT"):
            cursor = connection.connection.cursor()
            steps.extend(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {sql.replace('%s', '?')}", params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield steps


def test_neither_a_round_nor_a_launch_reads_all_runs_attempts_or_pipelines(settings: Any) -> None:
    settings.COMPUTE = {"local": {**settings.COMPUTE["local"], "MAX_PER_DAY": 1.0}}
    pipeline = Pipeline.objects.create(name="over", outcome="succeeded")
    for number in range(3):
        run = make_run(f"run-{number}", Status.SUCCEEDED, pipeline=pipeline, step=number, finished_at=timezone.now())
        run.attempts.create(number=1, outcome="succeeded", ended_at=timezone.now())
    make_run("waiting")
    with plans() as steps:
        advance_all()
        launch("preprocess", {"dataset": "d"}, name="named", step=1)
        launch("preprocess", {"dataset": "d"}, step=1)
        get_run("named")
        estimate("preprocess", "local")
        spent_today("local")
    assert len(steps) > 10
    scans = [step for step in steps if step.startswith("SCAN")]
    assert not [scan for scan in scans if scan.split()[1] in ("workers_run", "workers_attempt", "workers_pipeline")]


@pytest.mark.parametrize("model", [Run, Pipeline])
def test_a_page_of_the_list_sorts_nothing(model: type[Run | Pipeline]) -> None:
    with plans() as steps:
        list(model._default_manager.all()[:50])
    assert len(steps) == 1
    assert "USING INDEX" in steps[0]
