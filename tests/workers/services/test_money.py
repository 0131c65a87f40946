"""Costs and caps."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from datasets_app.errors import InputError
from tests.cast import make_routing_dataset, make_run
from workers.compute.types import JobState, JobStatus
from workers.models import Attempt, Run
from workers.remote.machines import gpus
from workers.services import launch
from workers.services.money import charge, check_affordable, cost, estimate, over_cap, spent_today, together
from workers.services.starting import start
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def prices(settings: Any, modal_token: None) -> None:
    """A cent a second for a processor, a minute at most, a dollar a run and two a day."""
    changed = {
        "PRICES": {"H100": 0.5, "A100-80GB": 0.25, "cpu": 0.01},
        "MACHINES": {"preprocess": ["cpu"], "train": ["H100", "A100-80GB"]},
        "TIME_LIMITS": {"preprocess": 60, "train": 600},
    }
    caps = {"MAX_PER_RUN": 1.0, "MAX_PER_DAY": 2.0}
    settings.COMPUTE = {**settings.COMPUTE, "modal": {**settings.COMPUTE["modal"], **changed, **caps}}
    settings.COMPUTE_DEFAULT = "modal"


def ended(name: str, dollars: str, seconds: float = 0) -> Run:
    run = make_run(name, Status.SUCCEEDED, kind="preprocess", backend="modal")
    now = timezone.now()
    run.attempts.create(number=1, outcome="succeeded", cost=Decimal(dollars), seconds=seconds, ended_at=now)
    return run


def test_an_estimate_is_the_time_limit_until_there_are_runs_to_go_by() -> None:
    assert estimate("preprocess", "modal").at_most == cost("preprocess", "modal", 60) == Decimal("0.6")
    assert str(estimate("preprocess", "modal")) == "at most 1 min, $0.60 by its time limit (no earlier run to go by)"
    assert estimate("preprocess", "modal", time_limit=30).at_most == Decimal("0.3")
    ended("a", "0.25", 25), ended("b", "0.10", 10), ended("c", "0.12", 12)
    found = estimate("preprocess", "modal")
    assert (found.runs, found.dollars, found.at_most) == (3, Decimal("0.12"), Decimal("0.25"))
    assert str(found) == "about 12 s (10 s to 25 s in the last 3 runs), $0.12 (at most $0.25)"


def test_a_run_that_needed_two_attempts_counts_with_both() -> None:
    run = ended("a", "0.25", 25)
    run.attempts.create(number=2, outcome="succeeded", cost=Decimal("0.30"), seconds=30, ended_at=timezone.now())
    assert (estimate("preprocess", "modal").dollars, estimate("preprocess", "modal").seconds) == (Decimal("0.55"), 55)


def test_an_estimate_and_the_sum_of_the_day_read_nothing_heavy_and_no_run_twice() -> None:
    for number in range(7):
        ended(f"ended-{number}", "0.10", 10)
        make_run(f"running-{number}", Status.RUNNING, kind="preprocess", backend="modal")
    with CaptureQueriesContext(connection) as asked:
        assert estimate("preprocess", "modal").runs == 5
        assert spent_today("modal") == Decimal("1.40")
    assert len(asked) == 6
    assert not [query["sql"] for query in asked if "spec" in query["sql"] or "summary" in query["sql"]]


def test_a_pipeline_takes_what_its_steps_take() -> None:
    ended("a", "0.25", 25)
    both = together([estimate("preprocess", "modal"), estimate("train", "modal")])
    assert (both.runs, both.seconds, both.at_most) == (0, 625, Decimal("300.25"))


def test_a_second_costs_what_the_machine_costs_that_the_job_found_or_else_the_dearest() -> None:
    assert cost("train", "modal", 10, "NVIDIA A100-SXM4-80GB") == Decimal("2.5")
    assert cost("train", "modal", 10, "NVIDIA H100 80GB HBM3") == Decimal("5")
    assert cost("train", "modal", 10, "") == cost("train", "modal", 10, "Abacus") == Decimal("5")


def test_a_backend_without_prices_costs_nothing() -> None:
    assert cost("train", "local", 1e6) == estimate("train", "local").at_most == 0


def running() -> Attempt:
    run = make_run("b", Status.RUNNING, kind="preprocess", backend="modal")
    return Attempt.objects.create(run=run, number=1)


def test_a_job_costs_something_while_it_runs() -> None:
    attempt = running()
    charge(attempt, JobStatus(JobState.RUNNING, seconds=20))
    assert Attempt.objects.get().cost == Decimal("0.2")
    charge(attempt, JobStatus(JobState.RUNNING, seconds=30, machine="NVIDIA H100"))
    assert Attempt.objects.get().cost == Decimal("15")


def test_a_job_given_up_by_a_silent_backend_costs_what_it_took_since_it_began() -> None:
    attempt = running()
    charge(attempt, JobStatus(JobState.RUNNING, seconds=20))
    attempt.began_at -= timedelta(seconds=80)  # type: ignore[operator]
    charge(attempt, JobStatus(JobState.RUNNING))
    assert Attempt.objects.get().cost == pytest.approx(Decimal("1.00"), abs=Decimal("0.01"))


def test_the_day_counts_what_ended_and_what_is_under_way() -> None:
    ended("a", "0.50")
    make_run("b", Status.RUNNING, kind="preprocess", backend="modal")
    assert spent_today("modal") == Decimal("1.00")


def test_what_ended_yesterday_is_not_of_today_and_what_ended_today_is_whenever_it_began() -> None:
    yesterday, today = ended("a", "0.50"), ended("b", "0.25")
    day = timedelta(days=1)
    yesterday.attempts.update(ended_at=timezone.now() - day)
    today.attempts.update(created_at=timezone.now() - day)
    assert spent_today("modal") == Decimal("0.25")


def test_a_run_under_way_counts_with_what_it_has_cost_where_that_is_more_than_was_expected() -> None:
    ended("a", "0.10", 10)
    run = make_run("b", Status.RUNNING, kind="preprocess", backend="modal")
    assert spent_today("modal") == Decimal("0.20")
    run.attempts.create(number=1, outcome="lost", cost=Decimal("0.70"), ended_at=timezone.now())
    run.attempts.create(number=2, cost=Decimal("0.50"))
    assert spent_today("modal") == Decimal("1.30")


@pytest.mark.parametrize(
    ("words", "dollars"), [("H100:1", "5"), ("H100!", "5"), (" H100", "5"), ("h100!,A100-80GB", "5"), ("L40S", "0")]
)
def test_gpus_cost_what_they_cost_however_they_are_asked_for(settings: Any, words: str, dollars: str) -> None:
    settings.COMPUTE["modal"]["MACHINES"]["train"] = gpus(words)
    assert cost("train", "modal", 10) == Decimal(dollars)


def test_a_job_costs_what_the_machine_that_it_found_costs(settings: Any) -> None:
    settings.COMPUTE["modal"]["MACHINES"]["train"] = ["H100", "A100-80GB"]
    assert cost("train", "modal", 10, "NVIDIA H100 80GB HBM3") == Decimal("5")
    assert cost("train", "modal", 10, "NVIDIA A100-SXM4-80GB") == Decimal("2.5")


def test_a_gpu_without_a_price_is_refused_while_there_is_a_cap(settings: Any) -> None:
    settings.COMPUTE["modal"]["MACHINES"]["train"] = ["H100", "L40S"]
    with pytest.raises(InputError, match="may get 'L40S', which has no price"):
        check_affordable("train", "modal", time_limit=1)
    settings.COMPUTE["modal"] |= {"MAX_PER_RUN": 0.0, "MAX_PER_DAY": 0.0}
    check_affordable("train", "modal", time_limit=1)


def test_a_run_has_to_end_once_its_attempts_have_cost_more_than_a_run_may() -> None:
    attempt = running()
    attempt.run.attempts.create(number=0, outcome="lost", cost=Decimal("0.70"), ended_at=timezone.now())
    charge(attempt, JobStatus(JobState.RUNNING, seconds=29))
    assert over_cap(attempt.run, attempt) is None
    charge(attempt, JobStatus(JobState.RUNNING, seconds=40))
    wanted = over_cap(attempt.run, attempt)
    assert wanted is not None
    assert (wanted.to, wanted.words) == (Status.FAILED, "It has cost $1.10; a run may cost $1.00.")


def test_a_run_may_hold_machines_for_as_long_as_its_estimate_says_over_all_its_attempts_and_no_longer(
    settings: Any,
) -> None:
    settings.COMPUTE["modal"] |= {"MAX_PER_RUN": 0.0, "MAX_PER_DAY": 0.0}
    attempt = running()
    attempt.run.attempts.create(number=0, outcome="lost", seconds=40, ended_at=timezone.now())
    charge(attempt, JobStatus(JobState.RUNNING, seconds=19))
    assert over_cap(attempt.run, attempt) is None
    charge(attempt, JobStatus(JobState.RUNNING, seconds=21))
    wanted = over_cap(attempt.run, attempt)
    assert wanted is not None
    assert wanted.to == Status.FAILED
    assert "has held machines for 1.02 min in all, and may for 1 min" in wanted.words
    assert attempt.run.attempts.aggregate(sum=Sum("cost"))["sum"] <= estimate("preprocess", "modal").at_most + cost(
        "preprocess", "modal", 1
    )


def test_what_runs_is_ended_when_the_day_has_cost_what_it_may(settings: Any) -> None:
    settings.COMPUTE["modal"]["MAX_PER_RUN"] = 0.0
    ended("a", "1.50")
    yesterday = ended("long-ago", "1.00")
    yesterday.attempts.update(ended_at=timezone.now() - timedelta(days=1))
    attempt = running()
    charge(attempt, JobStatus(JobState.RUNNING, seconds=49))
    assert over_cap(attempt.run, attempt) is None
    charge(attempt, JobStatus(JobState.RUNNING, seconds=50))
    wanted = over_cap(attempt.run, attempt)
    assert wanted is not None
    assert (wanted.to, wanted.words) == (Status.FAILED, "Today's runs have cost $2.00; a day may cost $2.00.")


def test_what_waits_is_not_launched_on_a_day_that_has_cost_what_it_may() -> None:
    ended("a", "2.00")
    run = make_run("b", kind="preprocess", backend="modal", spec={"ready": True})
    start(run)
    run.refresh_from_db()
    assert (run.status, run.error) == (Status.FAILED, "Today's runs have cost $2.00; a day may cost $2.00.")
    assert not run.attempts.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_launches_at_once_that_the_day_cannot_pay_one_is_refused(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.COMPUTE["modal"]["MAX_PER_DAY"] = 1.0
    dataset = make_routing_dataset().name
    both = threading.Barrier(2)

    def check(*words: Any) -> None:
        check_affordable(*words)
        with suppress(threading.BrokenBarrierError):
            both.wait(1)  # until the other has counted, too

    def launched(name: str) -> bool:
        try:
            while True:
                with suppress(OperationalError):  # SQLite in memory lets nobody wait for a lock
                    launch("preprocess", {"dataset": dataset}, name=name)
                    return True
        except InputError as error:
            assert "a day may cost $1.00" in str(error)
            return False
        finally:
            connection.close()

    monkeypatch.setattr("workers.services.launching.check_affordable", check)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(launched, ("a", "b"))) == [False, True]
    assert Run.objects.count() == 1


def test_a_run_over_its_cap_is_refused_with_the_sum() -> None:
    ended("a", "1.25")
    with pytest.raises(InputError, match=r"may cost up to \$1\.25; a run may cost \$1\.00"):
        launch("preprocess", {"dataset": make_routing_dataset().name})


def test_a_run_that_nothing_is_known_of_is_refused_by_its_time_limit_and_a_shorter_one_lets_it_pass(
    settings: Any,
) -> None:
    settings.COMPUTE["modal"]["TIME_LIMITS"]["preprocess"] = 600
    dataset = make_routing_dataset().name
    with pytest.raises(InputError, match=r"up to \$6\.00 within its time limit of 10 min"):
        launch("preprocess", {"dataset": dataset})
    assert launch("preprocess", {"dataset": dataset}, time_limit=90).time_limit == 90


def test_a_day_over_its_cap_is_refused_with_the_sums() -> None:
    for name in ("a", "b"):
        ended(name, "0.75")
    with pytest.raises(InputError, match=r"\$0\.75, with the \$1\.50 of today \$2\.25; a day may cost \$2\.00"):
        launch("preprocess", {"dataset": make_routing_dataset().name}, name="c")
    assert not Run.objects.filter(name="c").exists()
