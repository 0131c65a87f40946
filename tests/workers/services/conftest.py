"""What the tests of services share."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps

from inference.engines.types import StackSpec


class RecordingEngine:
    """Takes every stack, unless it is down."""

    def __init__(self) -> None:
        self.deployed: list[str] = []
        self.error: Exception | None = None

    def deploy(self, stack: StackSpec) -> None:
        if self.error is not None:
            raise self.error
        self.deployed.append(stack.digest)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> RecordingEngine:
    """An engine that only remembers what was loaded."""
    engine = RecordingEngine()
    for where in ("inference.services", "workers.services.loading"):
        monkeypatch.setattr(f"{where}.get_engine", lambda: engine)
    monkeypatch.setattr("workers.services.loading._under_way", {})
    return engine


@pytest.fixture
def limits(settings: Any) -> dict[str, float]:
    """The limits, to be changed."""
    settings.RUN_LIMITS = {**settings.RUN_LIMITS}
    return settings.RUN_LIMITS


@pytest.fixture
def new_installation(db: None) -> None:
    """What migrations put into the tables, which a test with transactions of its own has emptied."""
    for migration in ("0003_schedule", "0010_schedules"):
        import_module(f"workers.migrations.{migration}").begin(apps, None)
