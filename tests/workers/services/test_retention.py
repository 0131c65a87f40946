"""What is old and not needed goes; everything else stays."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from datasets_app.models import PreparedDataset, RoutingDataset
from tests.cast import make_champion, make_prepared, make_routing_dataset, make_run, make_source
from workers.models import Run
from workers.services import prune
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(settings: Any, tmp_path: Path) -> Path:
    settings.DATA_ROOT = tmp_path
    return tmp_path


def old(root: Path, name: str) -> RoutingDataset:
    """A dataset of two years ago with its prepared form, its run and the run's job folder."""
    then = timezone.now() - timedelta(days=730)
    dataset = make_routing_dataset(name)
    prepared = make_prepared(dataset)
    for row, folder in ((dataset, root / "datasets" / name), (prepared, root / "prepared" / name)):
        folder.mkdir(parents=True)
        (folder / "data").write_text("x" * 100)
        type(row)._default_manager.filter(pk=row.pk).update(path=str(folder), created_at=then)
    run = make_run(name, Status.SUCCEEDED, kind=Run.Kind.GENERATE_DATASET, routing_dataset=dataset)
    Run.objects.filter(pk=run.pk).update(finished_at=then, created_at=then)
    attempt = run.attempts.create(number=1, outcome="succeeded")
    (root / "jobs" / attempt.launch_key).mkdir(parents=True)
    return dataset


def test_a_dry_run_deletes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old(root, "a")
    call_command("prune", "--dry-run")
    printed = capsys.readouterr().out
    assert "routing dataset a" in printed
    assert "would be deleted" in printed
    assert (root / "datasets" / "a" / "data").exists()
    assert len(list((root / "jobs").iterdir())) == 1


def test_what_nothing_refers_to_goes_with_row_and_folder(root: Path) -> None:
    old(root, "a")
    prune(dry_run=False)
    assert not RoutingDataset.objects.exists()
    assert not PreparedDataset.objects.exists()
    assert [path for path in root.rglob("*") if path.is_file()] == []
    assert Run.objects.get().routing_dataset is None


def test_what_the_serving_router_came_from_stays(root: Path) -> None:
    dataset, stack = old(root, "a"), make_champion()
    make_run("train", Status.SUCCEEDED, kind="train", adapter_version=stack.router, params={"dataset": "a"})
    prune(dry_run=False)
    assert RoutingDataset.objects.get() == dataset
    assert (root / "datasets" / "a" / "data").exists()
    assert PreparedDataset.objects.exists()
    assert list((root / "jobs").iterdir()) == []


def test_a_folder_outside_the_data_folder_is_not_ours(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    old(root, "a")
    outside = tmp_path_factory.mktemp("outside")
    PreparedDataset.objects.update(path=str(outside))
    prune(dry_run=False)
    assert outside.exists()


def test_of_a_fetched_source_dataset_only_earlier_copies_go(root: Path) -> None:
    then = (timezone.now() - timedelta(days=730)).timestamp()
    for name in ("calendar-1", "calendar-2"):
        (root / "sources" / name).mkdir(parents=True)
        os.utime(root / "sources" / name, (then, then))
    source = make_source("calendar")
    source.path = str(root / "sources" / "calendar-2")
    source.save()
    prune(dry_run=False)
    assert [path.name for path in (root / "sources").iterdir()] == ["calendar-2"]
