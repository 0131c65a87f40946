"""What all tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets_app.samples.source import write_source
from tests.installation import DATA

SAMPLES = {"calendar": 80, "claim-window": 80, "provider-select": 80, "other": 80}


@pytest.fixture(scope="session", autouse=True)
def data_root() -> Iterator[Path]:
    """The session's data folder, removed at the end."""
    yield DATA
    shutil.rmtree(DATA, ignore_errors=True)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small source dataset of each kind of sample screen."""
    root = tmp_path_factory.mktemp("samples")
    return {kind: write_source(kind, root / kind, count, seed=7) for kind, count in SAMPLES.items()}
