"""What the recipes' tests share: a source of each kind, a prepared dataset, a router trained on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets_app.samples.source import write_source
from tests.workers.recipes.recording import RecordingJob
from workers.recipes import generate_dataset, preprocess, train

SEED = 3
"""Split seed of all data here, for which every class has enough screens on each side."""


@pytest.fixture(scope="session")
def screens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Source datasets of 130 screens: two experts, and what no expert is meant for."""
    root = tmp_path_factory.mktemp("screens")
    return {kind: write_source(kind, root / kind, 130, seed=5) for kind in ("calendar", "provider-select", "other")}


@pytest.fixture(scope="session")
def routing_folder(screens: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A routing dataset of 3 classes: 168 samples to train on, 24 to validate, 48 to evaluate."""
    job = RecordingJob(tmp_path_factory.mktemp("generated"))
    sources = [{"label": kind, "path": path, "negative": kind == "other"} for kind, path in screens.items()]
    spec = {"sources": sources, "samples_per_class": 80, "split": [0.7, 0.1, 0.2], "seed": SEED}
    generate_dataset.run(generate_dataset.Spec.model_validate(spec), job)
    return job.out


@pytest.fixture(scope="session")
def prepared_folder(routing_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The routing dataset prepared for the tiny base."""
    job = RecordingJob(tmp_path_factory.mktemp("prepared"))
    preprocess.run(preprocess.Spec(dataset=routing_folder), job)
    return job.out


@pytest.fixture(scope="session")
def expert_data(screens: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calendar's source dataset prepared for the tiny base."""
    job = RecordingJob(tmp_path_factory.mktemp("calendar"))
    preprocess.run(preprocess.Spec(dataset=screens["calendar"], split=[0.7, 0.1, 0.2], seed=SEED), job)
    return job.out


@pytest.fixture(scope="session")
def trained_router(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordingJob:
    """The job of a really trained router."""
    job = RecordingJob(tmp_path_factory.mktemp("router"))
    train.run(train.Spec(data=prepared_folder, threads=1, max_steps=80, eval_every=20), job)
    return job
