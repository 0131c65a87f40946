"""Experts with their source datasets, and a way to bring runs to their end without a broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.services import register_adapter
from datasets_app.services import register_source
from workers.compute import get_compute
from workers.models import Run
from workers.services import advance_all

EXPERTS = ["calendar", "claim-window", "provider-select"]


@pytest.fixture
def experts(db: None, samples: dict[str, Path]) -> list[str]:
    """Three registered experts; their names."""
    for name in EXPERTS:
        register_adapter(name, source=register_source(name, samples[name]))
    register_source("other", samples["other"])
    return EXPERTS


@pytest.fixture
def generate(experts: list[str]) -> dict[str, object]:
    """Parameters of a small `generate_dataset` run."""
    return {"adapters": experts, "negatives": ["other"], "samples_per_class": 10, "seed": 3}


def drive(run: Run, *, until: Callable[[Run], bool] = lambda run: run.is_over, seconds: float = 180) -> Run:
    """Be the worker: advance all runs until the condition holds."""
    deadline = time.monotonic() + seconds
    while True:
        run.refresh_from_db()
        if until(run):
            return run
        assert time.monotonic() < deadline, f"{run.name} is still {run.status} after {seconds} s"
        advance_all()
        time.sleep(0.05)


@pytest.fixture(name="drive")
def drive_fixture() -> Callable[..., Run]:
    """`drive(run, until=..., seconds=...)`."""
    get_compute.cache_clear()
    return drive
