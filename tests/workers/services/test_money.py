"""Costs and caps."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from datasets_app.errors import InputError
from tests.cast import make_routing_dataset, make_run
from workers.models import Run
from workers.services import launch
from workers.services.money import cost, estimate, spent_today
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def prices(settings: Any) -> None:
    """A cent a second, an assumed minute, a dollar a run and two a day."""
    changed = {"PRICES": {"preprocess": 0.01}, "ASSUMED_SECONDS": {"preprocess": 60}}
    caps = {"MAX_PER_RUN": 1.0, "MAX_PER_DAY": 2.0}
    settings.COMPUTE = {**settings.COMPUTE, "modal": {**settings.COMPUTE["modal"], **changed, **caps}}
    settings.COMPUTE_DEFAULT = "modal"


def ended(name: str, dollars: str) -> Run:
    run = make_run(name, Status.SUCCEEDED, kind="preprocess", backend="modal")
    run.attempts.create(number=1, outcome="succeeded", cost=Decimal(dollars))
    return run


def test_an_estimate_is_the_assumed_time_until_there_are_runs_to_go_by() -> None:
    assert estimate("preprocess", "modal") == cost("preprocess", "modal", 60) == Decimal("0.6")
    ended("a", "0.25"), ended("b", "0.10")
    assert estimate("preprocess", "modal") == Decimal("0.25")


def test_a_backend_without_prices_costs_nothing() -> None:
    assert cost("train", "local", 1e6) == estimate("train", "local") == 0


def test_the_day_counts_what_ended_and_what_is_under_way() -> None:
    ended("a", "0.50")
    make_run("b", Status.RUNNING, kind="preprocess", backend="modal")
    assert spent_today("modal") == Decimal("1.00")


def test_a_run_over_its_cap_is_refused_with_the_sum() -> None:
    ended("a", "1.25")
    with pytest.raises(InputError, match=r"expected to cost \$1\.25; a run may cost \$1\.00"):
        launch("preprocess", {"dataset": make_routing_dataset().name})


def test_a_day_over_its_cap_is_refused_with_the_sums() -> None:
    for name in ("a", "b"):
        ended(name, "0.75")
    with pytest.raises(InputError, match=r"\$0\.75, with the \$1\.50 of today \$2\.25; a day may cost \$2\.00"):
        launch("preprocess", {"dataset": make_routing_dataset().name}, name="c")
    assert not Run.objects.filter(name="c").exists()
