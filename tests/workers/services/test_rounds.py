"""What a round costs and leaves out: it looks at many runs at once, and at a queue only where there is room."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from benchmarks.reconcile import MAX_QUERIES, populate
from tests.cast import make_run
from tests.workers.services.test_fences import Backend, backend  # noqa: F401 - a fixture
from tests.workers.services.test_limits import queued, troubled  # noqa: F401 - a fixture
from workers.compute.types import JobSpec, JobState, JobStatus
from workers.kinds.base import Resolved
from workers.models import Attempt, Pipeline, Run
from workers.services import advance_all
from workers.services.alone import alone
from workers.services.starting import HELD_UP
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_folder(settings: Any, tmp_path: Any) -> None:
    settings.DATA_ROOT = tmp_path


def rows() -> list[tuple[Any, ...]]:
    return list(Run.objects.order_by("pk").values_list("pk", "status", "version", "heartbeat_at", "trouble"))


def queries_of_a_round() -> int:
    with CaptureQueriesContext(connection) as captured:
        advance_all()
    return len(captured)


def test_a_round_in_which_nothing_moves_costs_few_queries_however_many_runs_there_are(
    backend: Backend,  # noqa: F811
    settings: Any,
) -> None:
    settings.COMPUTE["local"]["SLOTS"] = 1000
    populate(1000, 5000)
    Run.objects.filter(status=Status.RUNNING).update(seen_at=timezone.now() - timedelta(seconds=40))
    before = rows()
    assert queries_of_a_round() <= MAX_QUERIES
    assert rows() == before
    assert [word for word, _ in backend.told] == ["poll"] * 1000
    looked = Run.objects.filter(status=Status.RUNNING, seen_at__gt=timezone.now() - timedelta(seconds=30))
    assert looked.count() == 1000


def test_jobs_that_wait_for_machines_cost_few_queries_and_are_not_taken_for_hanging(
    backend: Backend,  # noqa: F811
    settings: Any,
) -> None:
    settings.COMPUTE["local"] |= {"SLOTS": 200, "POLL": timedelta(seconds=5)}
    backend.polled = lambda: JobState.PENDING
    populate(200, 0)
    before = timezone.now()
    assert queries_of_a_round() <= MAX_QUERIES
    assert not Run.objects.filter(heartbeat_at__lt=before).exists()
    advance_all()
    assert len(backend.told) == 200  # their leases have not ended


def test_jobs_whose_machine_costs_nothing_are_not_written_down_for_each_second_that_they_take(
    backend: Backend,  # noqa: F811
    settings: Any,
) -> None:
    settings.COMPUTE["local"]["SLOTS"] = 150
    populate(150, 0)
    Attempt.objects.update(began_at=timezone.now())
    backend.poll = lambda handle: JobStatus(JobState.RUNNING, seconds=3)  # type: ignore[method-assign]
    assert queries_of_a_round() <= MAX_QUERIES


def test_a_job_with_news_among_many_without_is_taken_a_step_on(
    backend: Backend,  # noqa: F811
    settings: Any,
) -> None:
    settings.COMPUTE["local"]["SLOTS"] = 150
    keys = populate(150, 0)
    backend.poll = lambda handle: JobStatus(JobState.FAILED if handle == keys[70] else JobState.RUNNING, error="no")  # type: ignore[method-assign]
    advance_all()
    assert list(Run.objects.filter(status=Status.FAILED).values_list("attempts__launch_key", flat=True)) == [keys[70]]
    assert Run.objects.filter(status=Status.RUNNING).count() == 149


def test_the_last_of_a_long_queue_is_reached_past_those_that_are_held_up(
    backend: Backend,  # noqa: F811
) -> None:
    hour = timezone.now() + timedelta(hours=1)
    for number in range(30):
        make_run(f"held-{number}", trouble=HELD_UP, spec={"ready": True})
        ended = make_run(f"held-{number}", Status.CANCELLED)
        Attempt.objects.create(run=ended, number=1, outcome="cancelled", cancel_due_at=hour)
    last = queued("last")
    assert queries_of_a_round() <= MAX_QUERIES
    last.refresh_from_db()
    assert last.status == Status.RUNNING
    assert Run.objects.filter(trouble=HELD_UP, status=Status.QUEUED).count() == 30


def test_steps_that_wait_for_others_cost_nothing_while_there_is_room(
    backend: Backend,  # noqa: F811
    settings: Any,
) -> None:
    settings.COMPUTE["local"]["SLOTS"] = 500
    populate(0, 800)
    Run.objects.filter(pipeline=None).delete()
    advance_all()
    assert set(Run.objects.filter(status=Status.RUNNING).values_list("step", flat=True)) == {0}
    assert Run.objects.filter(status=Status.QUEUED).count() == 300
    assert queries_of_a_round() <= MAX_QUERIES


def test_a_full_backend_holds_up_no_other(backend: Backend, settings: Any) -> None:  # noqa: F811
    settings.COMPUTE["other"] = {**settings.COMPUTE["local"], "SLOTS": 1}
    settings.COMPUTE["local"]["SLOTS"] = 2
    populate(2, 10)
    other = make_run("other", backend="other", spec={"ready": True})
    advance_all()
    other.refresh_from_db()
    assert other.status == Status.RUNNING


def test_what_ends_without_a_job_ends_though_its_backend_is_full(
    backend: Backend,  # noqa: F811
    settings: Any,
) -> None:
    settings.COMPUTE["local"]["SLOTS"] = 1
    populate(1, 0)
    pipeline = Pipeline.objects.create(name="p", kind=Pipeline.Kind.ROUTER)
    make_run("first", Status.FAILED, pipeline=pipeline, step=0)
    second = make_run("second", pipeline=pipeline, step=1)
    make_run("third", pipeline=pipeline, step=2)
    lonely = make_run("lonely", pipeline=Pipeline.objects.create(name="q", kind=Pipeline.Kind.ROUTER), step=1)
    unwanted = queued("unwanted")
    Run.objects.filter(pk=unwanted.pk).update(cancel_requested_at=timezone.now())
    for _ in range(2):
        advance_all()
    ends = dict(Run.objects.exclude(name__startswith="active").values_list("name", "status"))
    assert ends.pop("lonely") == Status.FAILED
    assert (ends.pop("first"), set(ends.values())) == (Status.FAILED, {Status.CANCELLED})
    assert second.pk and lonely.pk


def test_a_spec_is_resolved_once_however_long_its_run_waits(
    backend: Backend,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolved: list[str] = []

    class Kind:
        @staticmethod
        def resolve(run: Run) -> Resolved:
            resolved.append(run.name)
            return Resolved(spec={"number": len(resolved)}, inputs={}, digests={})

    monkeypatch.setattr("workers.services.starting.get_kind", lambda kind: Kind)
    run = make_run("again")
    late = make_run("again", Status.CANCELLED)
    Attempt.objects.create(run=late, number=1, outcome="cancelled", cancel_due_at=timezone.now() + timedelta(hours=1))
    for _ in range(3):
        advance_all()
    run.refresh_from_db()
    assert (resolved, run.spec, run.trouble, run.status) == (["again"], {"number": 1}, HELD_UP, Status.QUEUED)
    Attempt.objects.update(cancel_due_at=None)
    advance_all()
    run.refresh_from_db()
    assert (resolved, run.spec, run.trouble, run.status) == (["again"], {"number": 1}, "", Status.RUNNING)


def test_rounds_of_a_backend_do_not_overlap(backend: Backend, settings: Any) -> None:  # noqa: F811
    settings.COMPUTE["other"] = {**settings.COMPUTE["local"]}
    run, other = queued(), make_run("other", backend="other", spec={"ready": True})

    def submit(job: JobSpec) -> str:
        backend.told.append(("submit", job.launch_key))
        if len(backend.told) == 1:
            advance_all()  # as another process does: it takes the other backend's run alone
            taken.append({row.name for row in Run.objects.exclude(status=Status.QUEUED)})
        return job.launch_key

    taken: list[set[str]] = []
    backend.submit = submit  # type: ignore[method-assign]
    advance_all()
    assert taken == [{run.name, other.name}]


def test_a_round_leaves_a_backend_to_the_process_that_is_at_it(backend: Backend) -> None:  # noqa: F811
    run = queued()
    with alone("round-local") as mine:
        assert mine
        advance_all()
    assert (Run.objects.get().status, backend.told) == (Status.QUEUED, [])
    advance_all()
    run.refresh_from_db()
    assert run.status == Status.RUNNING
