"""Nothing stays where it is for ever: jobs that hang, backends that are deaf, wishes to cancel."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError
from django.db.models import F, QuerySet
from django.utils import timezone

from tests.cast import make_run
from tests.workers.services.test_advancing import has_claimed, pid_of
from workers.compute.types import ComputeUnavailable, JobSpec, JobState, JobStatus
from workers.models import Attempt, Run
from workers.services import advance_all, cancel, launch, retry
from workers.services.moves import move, note
from workers.states import Status

Drive = Callable[..., Run]

pytestmark = pytest.mark.django_db


class Troubled:
    """A backend whose every call fails but those that `works` names."""

    works: set[str] = set()
    asked: list[str] = []
    error: type[Exception] = ConnectionError

    def submit(self, job: JobSpec) -> str:
        return self._answer("submit", job.launch_key)

    def poll(self, handle: str) -> JobStatus:
        return self._answer("poll", JobStatus(JobState.RUNNING))

    def cancel(self, handle: str, *, at_once: bool = False) -> None:
        self._answer("cancel", None)

    def _answer(self, call: str, value: Any) -> Any:
        self.asked.append(call)
        if call not in self.works:
            raise self.error("The backend does not answer.")
        return value


@pytest.fixture
def troubled(settings: Any) -> Iterator[type[Troubled]]:
    settings.COMPUTE = {"local": {"BACKEND": f"{__name__}.Troubled", "OPTIONS": {}, "SLOTS": 2}}
    sys.modules[__name__] = sys.modules.get(__name__) or sys.modules[Troubled.__module__]
    from workers.compute import get_compute

    get_compute.cache_clear()
    Troubled.works, Troubled.asked = set(), []
    yield Troubled
    get_compute.cache_clear()


def later(run: Run, seconds: float = 10**6) -> Run:
    """The run, as if it had been where it is for long."""
    then = timezone.now() - timedelta(seconds=seconds)
    stamps = {"moved_at": then, "heartbeat_at": then, "lease_until": None}
    if run.cancel_requested_at:
        stamps["cancel_requested_at"] = then
    Run.objects.filter(pk=run.pk).update(**stamps)
    Run.objects.filter(pk=run.pk, failing_since__isnull=False).update(failing_since=then)
    run.refresh_from_db()
    return run


def queued(name: str = "run") -> Run:
    return make_run(name, spec={"ready": True})


@pytest.fixture
def stopped(generate: dict[str, object], drive: Drive) -> Iterator[Run]:
    """A run whose job has claimed its launch and then stands still."""
    run = drive(launch("generate_dataset", generate, name="routing_still"), until=has_claimed)
    pid = pid_of(run) or 0
    os.kill(pid, signal.SIGSTOP)
    yield run
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_a_job_that_hangs_is_ended_and_launched_again(stopped: Run, drive: Drive) -> None:
    later(stopped)
    run = drive(stopped, until=lambda run: run.status == Status.QUEUED or run.attempts.count() == 2)
    run = drive(run)
    assert run.status == Status.SUCCEEDED, run.error
    assert [attempt.outcome for attempt in run.attempts.all()] == ["lost", "succeeded"]
    assert "no progress" in run.attempts.first().error  # type: ignore[union-attr]


def test_a_run_that_outlives_its_time_limit_fails(stopped: Run, drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.compute.local.KILL_SECONDS", 0.2)
    Run.objects.filter(pk=stopped.pk).update(time_limit=5, started_at=timezone.now() - timedelta(seconds=6))
    run = drive(stopped)
    assert (run.status, run.error) == (Status.FAILED, "It did not end within 5 s.")


def test_a_run_that_has_cost_more_than_a_run_may_is_ended_with_the_sum(
    stopped: Run, drive: Drive, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.compute.local.KILL_SECONDS", 0.2)
    settings.COMPUTE = {**settings.COMPUTE, "local": {**settings.COMPUTE["local"], "MAX_PER_RUN": 1.0}}
    stopped.attempts.update(cost=2)
    run = drive(stopped)
    assert (run.status, run.error) == (Status.FAILED, "It has cost $2.00; a run may cost $1.00.")
    assert run.attempts.count() == 1


def test_cancelling_ends_even_if_the_job_never_does(stopped: Run, limits: dict[str, float]) -> None:
    limits["CANCEL"] = 0
    cancel(stopped)
    advance_all()
    stopped.refresh_from_db()
    assert stopped.status == Status.CANCELLED
    assert not Attempt.objects.filter(slot__isnull=False).exists()


def test_a_job_that_somebody_else_told_to_end_gets_another_attempt(generate: dict[str, object], drive: Drive) -> None:
    run = drive(launch("generate_dataset", generate, name="routing_term"), until=has_claimed)
    os.kill(pid_of(run) or 0, signal.SIGTERM)
    run = drive(run)
    assert run.status == Status.SUCCEEDED, run.error
    assert run.attempts.count() == 2


def test_a_backend_that_takes_no_job_is_asked_again_and_then_given_up(troubled: type[Troubled]) -> None:
    run = queued()
    advance_all()
    run.refresh_from_db()
    assert run.status == Status.LAUNCHING
    assert "does not answer" in run.trouble
    Run.objects.filter(pk=run.pk).update(lease_until=None)
    troubled.works = {"submit", "poll"}
    advance_all()
    run.refresh_from_db()
    assert (run.status, run.attempts.count()) == (Status.RUNNING, 1)

    other = queued("other")
    troubled.works = set()
    advance_all()
    later(other)
    advance_all()
    other.refresh_from_db()
    assert other.status == Status.FAILED
    assert "could not be launched for 30 min: ConnectionError" in other.error


@pytest.mark.parametrize("status", [Status.LAUNCHING, Status.RUNNING])
def test_cancelling_ends_even_if_the_backend_never_answers(
    troubled: type[Troubled], limits: dict[str, float], status: Status
) -> None:
    troubled.works = {"submit"} if status == Status.RUNNING else set()
    run = queued()
    advance_all()
    run.refresh_from_db()
    assert run.status == status
    later(cancel(run), seconds=limits["CANCEL"] + 1)
    troubled.works = set()
    advance_all()
    run.refresh_from_db()
    assert run.status == Status.CANCELLED


@pytest.fixture
def given_up(troubled: type[Troubled], limits: dict[str, float], request: pytest.FixtureRequest) -> Run:
    """A cancelled run, launching or running, whose backend never took the cancel."""
    troubled.works = {"submit"} if request.param == Status.RUNNING else set()
    run = queued()
    advance_all()
    later(cancel(run), seconds=limits["CANCEL"] + 1)
    troubled.works = set()
    advance_all()
    run.refresh_from_db()
    assert run.status == Status.CANCELLED
    return run


@pytest.mark.parametrize("given_up", [Status.LAUNCHING, Status.RUNNING], indirect=True)
def test_a_given_up_job_is_cancelled_when_its_backend_answers_and_its_cost_counted(
    given_up: Run, troubled: type[Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    Attempt.objects.update(cancel_due_at=timezone.now())
    troubled.works = {"cancel", "poll"}
    monkeypatch.setattr(Troubled, "poll", lambda self, handle: JobStatus(JobState.CANCELLED, seconds=7))
    troubled.asked = []
    advance_all()
    advance_all()
    assert troubled.asked == ["cancel"]  # and once is enough
    attempt = given_up.attempts.get()
    assert (attempt.cancel_due_at, attempt.seconds, attempt.outcome) == (None, 7, "cancelled")


@pytest.mark.parametrize("given_up", [Status.RUNNING], indirect=True)
def test_a_backend_that_does_not_take_a_cancel_is_asked_ever_more_rarely_and_the_cost_goes_on(
    given_up: Run, troubled: type[Troubled]
) -> None:
    Attempt.objects.update(cancel_due_at=timezone.now(), began_at=timezone.now() - timedelta(hours=1), silences=0)
    waits = []
    for _ in range(3):
        advance_all()
        attempt = given_up.attempts.get()
        assert attempt.cancel_due_at is not None
        waits.append((attempt.cancel_due_at - timezone.now()).total_seconds())
        Attempt.objects.update(cancel_due_at=timezone.now())
    assert waits == pytest.approx([5, 10, 20], abs=2)
    assert attempt.seconds == pytest.approx(3600, abs=5)


@pytest.mark.parametrize("given_up", [Status.RUNNING], indirect=True)
def test_a_job_that_has_ended_costs_no_more_though_its_cancel_is_still_owed(
    given_up: Run, troubled: type[Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    Attempt.objects.update(cancel_due_at=timezone.now(), began_at=timezone.now() - timedelta(hours=1))
    monkeypatch.setattr(Troubled, "poll", lambda self, handle: JobStatus(JobState.CANCELLED, seconds=7))
    advance_all()
    attempt = given_up.attempts.get()
    assert (attempt.cancel_due_at is not None, attempt.seconds) == (True, 7)


@pytest.mark.parametrize("given_up", [Status.RUNNING], indirect=True)
def test_the_same_work_is_not_launched_again_while_its_cancelled_job_may_go_on(
    given_up: Run, troubled: type[Troubled]
) -> None:
    again, other = queued(), queued("other")
    Attempt.objects.update(cancel_due_at=timezone.now() + timedelta(minutes=1))
    troubled.works = {"submit", "poll", "cancel"}
    advance_all()
    again.refresh_from_db()
    other.refresh_from_db()
    assert (again.status, other.status) == (Status.QUEUED, Status.RUNNING)
    assert "to be cancelled first" in again.trouble
    Attempt.objects.filter(run=given_up).update(cancel_due_at=timezone.now())
    advance_all()
    advance_all()
    again.refresh_from_db()
    assert (again.status, again.trouble) == (Status.RUNNING, "")


def test_a_late_job_that_cannot_be_cancelled_is_owed_its_cancel(
    troubled: type[Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = queued()

    def submit(self: Troubled, job: JobSpec) -> str:
        Attempt.objects.update(outcome="cancelled", slot=None)
        Run.objects.filter(pk=run.pk).update(status=Status.CANCELLED, version=99)
        return "late"

    monkeypatch.setattr(Troubled, "submit", submit)
    advance_all()
    attempt = run.attempts.get()
    assert attempt.handle == "late"
    assert attempt.cancel_due_at is not None


def test_a_job_submitted_after_its_launch_was_given_up_is_cancelled(
    troubled: type[Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a worker that stood still in between."""
    told: list[str] = []
    run = queued()

    def submit(self: Troubled, job: JobSpec) -> str:
        Attempt.objects.update(outcome="cancelled", slot=None)
        Run.objects.filter(pk=run.pk).update(status=Status.CANCELLED, version=99)
        return "late"

    monkeypatch.setattr(Troubled, "submit", submit)
    monkeypatch.setattr(Troubled, "cancel", lambda self, handle, at_once=False: told.append(handle))
    advance_all()
    run.refresh_from_db()
    assert (run.status, told) == (Status.CANCELLED, ["late"])


def test_what_was_seen_of_a_run_before_it_moved_is_not_written() -> None:
    run = make_run(status=Status.RUNNING)
    stale = Run.objects.get(pk=run.pk)
    assert move(run, Status.QUEUED)
    assert not note(stale, progress={"done": 9})
    assert Run.objects.get().progress == {}


def test_cancelling_changes_nothing_of_a_run_that_is_over() -> None:
    run = make_run(status=Status.RUNNING)
    stale = Run.objects.get(pk=run.pk)
    move(run, Status.FAILED)
    cancel(stale)
    assert Run.objects.get().cancel_requested_at is None


def test_a_slot_is_taken_once() -> None:
    first, second = make_run("a"), make_run("b")
    Attempt.objects.create(run=first, number=1, backend="local", slot=0)
    with pytest.raises(IntegrityError):
        Attempt.objects.create(run=second, number=1, backend="local", slot=0)


def test_a_launch_that_loses_its_slot_to_another_process_stays_queued(
    troubled: type[Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one took it between the look and the leap."""
    taken, run = make_run("taken", Status.SUCCEEDED), queued()
    create = Attempt.objects.create

    def second(**fields: Any) -> Attempt:
        monkeypatch.setattr(Attempt.objects, "create", create)
        create(run=taken, number=1, backend="local", slot=fields["slot"])
        return create(**fields)

    monkeypatch.setattr(Attempt.objects, "create", second)
    advance_all()
    run.refresh_from_db()
    assert (run.status, run.attempts.count()) == (Status.QUEUED, 0)


def test_only_what_failed_or_was_cancelled_can_be_tried_again(generate: dict[str, object]) -> None:
    from datasets_app.errors import InputError

    run = launch("generate_dataset", generate, name="mine")
    with pytest.raises(InputError, match="only a failed or cancelled run"):
        retry(run)
    again = retry(cancel(run))
    assert again.pk != run.pk
    assert (again.name, again.params, again.status) == (run.name, run.params, Status.QUEUED)


SCRIPT = """
import socket, sys, time
import django
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()  # takes connections and never says a word
django.setup()
from workers.services.hints import hint
for _ in range(3):
    started = time.monotonic()
    hint()
    print(time.monotonic() - started)
"""


@pytest.mark.parametrize("broker", ["silent", "dead"])
def test_a_broker_that_does_not_answer_holds_nobody_up(tmp_path: Path, broker: str) -> None:
    listening = tmp_path / "s"
    url = f"redis+socket://{listening if broker == 'silent' else tmp_path / 'nothing'}"
    environment = {
        **os.environ, "REDIS_URL": url, "DJANGO_SETTINGS_MODULE": "controlplane.settings",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(listening)], env=environment, capture_output=True, text=True, timeout=60
    )
    seconds = [float(line) for line in done.stdout.split()]
    assert len(seconds) == 3, done.stderr
    assert max(seconds) < 3


@pytest.fixture
def silent(troubled: type[Troubled], settings: Any, monkeypatch: pytest.MonkeyPatch) -> type[Troubled]:
    """A backend that says that it cannot be asked now, save the calls that `works` names."""
    monkeypatch.setattr(Troubled, "error", ComputeUnavailable)
    settings.COMPUTE["local"] |= {"SLOTS": 9, "POLL": timedelta(seconds=5)}
    return troubled


def until_asked_again(run: Run) -> float:
    """Seconds that the run is left alone."""
    run.refresh_from_db()
    assert run.lease_until is not None
    return (run.lease_until - timezone.now()).total_seconds()


def test_a_silent_backend_is_asked_ever_more_rarely_until_it_answers(silent: type[Troubled]) -> None:
    run = queued()
    waits = []
    for _ in range(8):
        advance_all()
        waits.append(until_asked_again(run))
        Run.objects.update(lease_until=None)
    assert waits == pytest.approx([5, 10, 20, 30, 30, 30, 30, 30], abs=2)
    assert (run.status, run.trouble) == (Status.LAUNCHING, "The backend does not answer.")
    silent.works = {"submit", "poll"}
    advance_all()
    advance_all()
    run.refresh_from_db()
    assert (run.status, run.trouble, run.attempts.get().silences) == (Status.RUNNING, "", 0)
    assert until_asked_again(run) == pytest.approx(5, abs=2)


def test_a_silent_backend_is_asked_once_a_round(silent: type[Troubled]) -> None:
    for name in ("a", "b", "c"):
        queued(name)
    advance_all()
    assert silent.asked == ["submit"]


def test_a_job_whose_backend_is_silent_is_not_taken_for_one_that_hangs(silent: type[Troubled]) -> None:
    silent.works = {"submit"}
    run = queued()
    advance_all()
    advance_all()
    for _ in range(3):
        Run.objects.update(lease_until=None, heartbeat_at=F("heartbeat_at") - timedelta(minutes=20))
        advance_all()
    run.refresh_from_db()
    assert (run.status, run.attempts.count()) == (Status.RUNNING, 1)
    assert "cancel" not in silent.asked


def test_a_job_that_waits_for_a_machine_is_not_taken_for_one_that_hangs(
    silent: type[Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Troubled, "poll", lambda self, handle: JobStatus(JobState.PENDING))
    silent.works = {"submit"}
    run = queued()
    advance_all()
    for _ in range(3):
        Run.objects.update(lease_until=None, heartbeat_at=timezone.now() - timedelta(minutes=20))
        advance_all()
        run.refresh_from_db()
        assert run.heartbeat_at is not None
        assert timezone.now() - run.heartbeat_at < timedelta(minutes=1)
    assert run.status == Status.RUNNING


def test_a_job_that_got_on_while_no_worker_looked_is_not_taken_for_one_that_hangs(
    silent: type[Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent.works = {"submit", "cancel"}
    run = queued()
    advance_all()
    later(run)
    report = {"step": "read", "done": 1, "total": 2}
    monkeypatch.setattr(Troubled, "poll", lambda self, handle: JobStatus(JobState.RUNNING, report))
    advance_all()
    run.refresh_from_db()
    assert (run.status, run.progress, "cancel" in silent.asked) == (Status.RUNNING, report, False)
    later(run)
    advance_all()  # it stands where it stood
    run.refresh_from_db()
    assert (run.status, run.attempts.get().outcome) == (Status.QUEUED, "lost")


def test_a_wish_to_cancel_does_not_wait_for_the_next_look(silent: type[Troubled]) -> None:
    silent.works = {"submit"}
    run = queued()
    advance_all()
    advance_all()
    assert until_asked_again(run) > 0
    cancel(run)
    run.refresh_from_db()
    assert run.lease_until is None


def test_a_run_without_a_time_limit_has_that_of_its_backend(silent: type[Troubled], settings: Any) -> None:
    settings.COMPUTE["local"] |= {"DEADLINE": timedelta(hours=1)}
    silent.works = {"submit", "poll", "cancel"}
    run = queued()
    advance_all()
    Run.objects.update(started_at=timezone.now() - timedelta(hours=2))
    advance_all()
    run.refresh_from_db()
    assert (run.status, run.error) == (Status.FAILED, "It did not end within 3600 s.")
    assert "cancel" in silent.asked


@pytest.mark.parametrize(
    "result", [{"state": "failed", "error": "No \udcff."}, {"state": "succeeded", "summary": {"loss": math.nan}}]
)
def test_a_run_ends_whatever_its_job_left(
    troubled: type[Troubled], monkeypatch: pytest.MonkeyPatch, result: dict[str, Any]
) -> None:
    troubled.works = {"submit"}
    run = queued()
    advance_all()
    monkeypatch.setattr(Troubled, "poll", lambda self, handle: JobStatus.left(result, {}))
    advance_all()
    run.refresh_from_db()
    assert run.status == Status.FAILED
    assert run.error


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.LOST])
def test_an_overdue_end_comes_though_what_the_job_left_cannot_be_taken_over(
    troubled: type[Troubled], limits: dict[str, float], monkeypatch: pytest.MonkeyPatch, state: JobState
) -> None:
    """Whatever is wrong with it: the database refuses what it would come to."""
    troubled.works = {"submit"}
    run = queued()
    advance_all()
    monkeypatch.setattr(Troubled, "poll", lambda self, handle: JobStatus(state, error="bad", summary={"bad": 1}))
    update = QuerySet.update

    def refuse(rows: Any, **fields: Any) -> int:
        if "bad" in str(fields.get("error", "")) or fields.get("summary"):
            raise IntegrityError("CHECK constraint failed")
        return update(rows, **fields)

    monkeypatch.setattr(QuerySet, "update", refuse)
    advance_all()
    run.refresh_from_db()
    assert (run.status, "CHECK" in run.trouble) == (Status.RUNNING, True)
    later(cancel(run), seconds=limits["CANCEL"] + 1)
    advance_all()
    run.refresh_from_db()
    assert run.status == Status.CANCELLED
    assert not Attempt.objects.filter(slot__isnull=False).exists()


def test_a_step_that_fails_over_a_name_that_is_no_text_holds_up_nobody_else(
    troubled: type[Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(self: Troubled, job: JobSpec) -> str:
        raise RuntimeError("No file \udcff.")

    monkeypatch.setattr(Troubled, "submit", submit)
    runs = [queued("a"), queued("b")]
    advance_all()
    for run in runs:
        run.refresh_from_db()
        assert run.trouble == "RuntimeError: No file \N{REPLACEMENT CHARACTER}."


def test_a_reason_that_cannot_be_written_down_holds_up_nobody_else(
    troubled: type[Troubled], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: Run, words: str, **fields: Any) -> bool:
        raise ValueError(words)

    monkeypatch.setattr("workers.services.advancing.trouble", refuse)
    queued("a"), queued("b")
    advance_all()
    assert troubled.asked == ["submit", "submit"]
