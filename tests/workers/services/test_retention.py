"""What is old and not needed goes; everything else stays."""

from __future__ import annotations

import fcntl
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from axes.models import AccessFailureLog, AccessLog
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from adapters.models import AdapterVersion, Evaluation, Promotion
from datasets_app.models import PreparedDataset, RoutingDataset
from tests.cast import (
    make_champion,
    make_evaluation,
    make_prepared,
    make_routing_dataset,
    make_run,
    make_source,
    make_version,
)
from workers import tasks
from workers.models import Alert, Attempt, Notification, Pipeline, Run, Slot
from workers.services import prune
from workers.services.alone import LONG_STEP, alone
from workers.services.retention import delete, doomed
from workers.services.starting import work_key
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(settings: Any, tmp_path: Path) -> Path:
    settings.DATA_ROOT = tmp_path
    return tmp_path


def pruned(*, dry_run: bool = False) -> list[str]:
    return [what for what, _ in prune(dry_run=dry_run)]


THEN = timezone.now() - timedelta(days=730)


def old(root: Path, name: str) -> RoutingDataset:
    """A dataset of two years ago with its prepared form, its run and the run's job folder."""
    dataset = make_routing_dataset(name)
    prepared = make_prepared(dataset)
    for row, folder in ((dataset, root / "datasets" / name), (prepared, root / "prepared" / name)):
        folder.mkdir(parents=True)
        (folder / "data").write_text("x" * 100)
        type(row)._default_manager.filter(pk=row.pk).update(path=str(folder), created_at=THEN)
    run = make_run(name, Status.SUCCEEDED, kind=Run.Kind.GENERATE_DATASET, routing_dataset=dataset)
    Run.objects.filter(pk=run.pk).update(finished_at=THEN, created_at=THEN)
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
    pruned()
    assert not RoutingDataset.objects.exists()
    assert not PreparedDataset.objects.exists()
    assert [path for path in root.rglob("*") if path.is_file()] == []
    assert Run.objects.get().routing_dataset is None


def test_what_the_serving_router_came_from_stays(root: Path) -> None:
    dataset, stack = old(root, "a"), make_champion()
    make_run("train", Status.SUCCEEDED, kind="train", adapter_version=stack.router, params={"dataset": "a"})
    pruned()
    assert RoutingDataset.objects.get() == dataset
    assert (root / "datasets" / "a" / "data").exists()
    assert PreparedDataset.objects.exists()
    assert list((root / "jobs").iterdir()) == []


def test_a_folder_outside_the_data_folder_is_not_ours(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    old(root, "a")
    outside = tmp_path_factory.mktemp("outside")
    PreparedDataset.objects.update(path=str(outside))
    pruned()
    assert outside.exists()


def test_of_a_fetched_source_dataset_only_earlier_copies_go(root: Path) -> None:
    then = THEN.timestamp()
    for name in ("calendar-1", "calendar-2"):
        (root / "sources" / name).mkdir(parents=True)
        os.utime(root / "sources" / name, (then, then))
    source = make_source("calendar")
    source.path = str(root / "sources" / "calendar-2")
    source.save()
    pruned()
    assert [path.name for path in (root / "sources").iterdir()] == ["calendar-2"]


def tried(root: Path, name: str = "train") -> Path:
    """The checkpoints of a training that failed 20 days ago."""
    run = make_run(name, Status.FAILED, kind="train", finished_at=timezone.now() - timedelta(days=20))
    folder = root / "work" / work_key(run)
    folder.mkdir(parents=True)
    (folder / "checkpoint").write_text("x")
    (folder / ".lock").touch()
    return folder


def test_old_checkpoints_go_but_not_those_of_work_that_was_tried_again(root: Path) -> None:
    gone, goes_on, again = tried(root, "gone"), tried(root, "goes-on"), tried(root, "again")
    make_run("goes-on", Status.RUNNING, kind="train")
    make_run("again", Status.FAILED, kind="train", finished_at=timezone.now())
    pruned()
    assert [folder.exists() for folder in (gone, goes_on, again)] == [False, True, True]
    assert sorted(path.name for path in (root / "work").iterdir()) == sorted([goes_on.name, again.name])


def test_what_is_tried_again_after_it_was_listed_stays(root: Path) -> None:
    checkpoints, dataset = tried(root), old(root, "a")
    listed = list(doomed())
    make_run("train", Status.QUEUED, kind="train")
    make_run("prepare", Status.QUEUED, params={"dataset": "a"})
    gone = {what for what, _ in delete(listed)}
    kept = [item.what for item in listed if item.what not in gone]
    assert kept == ["checkpoints of train", "prepared dataset a (prepared)", "routing dataset a"]
    assert (checkpoints / "checkpoint").exists()
    assert (Path(RoutingDataset.objects.get(pk=dataset.pk).path) / "data").exists()


def test_checkpoints_that_a_job_works_in_stay_though_nobody_waits_for_it(root: Path) -> None:
    checkpoints = tried(root)
    with (checkpoints / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert pruned() == []
    assert (checkpoints / "checkpoint").exists()
    assert len(pruned()) == 1


def evaluated(root: Path, name: str, version: AdapterVersion, pipeline: Pipeline | None = None) -> Run:
    """An evaluation of two years ago."""
    folder = root / "evaluations" / name
    folder.mkdir(parents=True)
    row = {"kind": "evaluate", "finished_at": THEN, "pipeline": pipeline}
    run = make_run(name, Status.SUCCEEDED, evaluation=make_evaluation(version, str(folder)), **row)
    run.attempts.create(number=1, outcome="succeeded")
    return run


def test_old_records_go_but_not_the_evidence_of_what_serves(root: Path) -> None:
    stack = make_champion()
    ended: dict[str, Any] = {"outcome": "succeeded", "finished_at": THEN}
    promoting = Pipeline.objects.create(name="promoting", promoted=stack, **ended)
    verdict = evaluated(root, "verdict", stack.router, promoting)
    Promotion.objects.create(stack=stack, evaluation=verdict.evaluation)
    evaluated(root, "by-hand", stack.router)
    night = Pipeline.objects.create(name="night", kind=Pipeline.Kind.REEVALUATE, **ended)
    evaluated(root, "night", stack.router, night)
    stranger = make_version(stack.router.adapter)
    make_version(stack.router.adapter)  # the current one
    evaluated(root, "stranger", stranger, Pipeline.objects.create(name="strange", **ended))
    make_run("failed", Status.FAILED, finished_at=THEN)
    make_run("young", Status.FAILED, finished_at=timezone.now())
    make_run("active")
    for days in (0, 1):
        Slot.objects.create(schedule="nightly", at=THEN + timedelta(days=days), pipeline=night)
    for key, then in (("old", THEN), ("new", timezone.now())):
        alert = Alert.objects.create(key=key, level="info", text=key)
        Alert.objects.filter(pk=alert.pk).update(created_at=then)
        Notification.objects.create(alert=alert, channel="email")

    before = _count()
    dry = set(pruned(dry_run=True))
    assert _count() == before
    assert set(pruned()) == dry
    assert set(Run.objects.values_list("name", flat=True)) == {"verdict", "by-hand", "young", "active"}
    assert set(Pipeline.objects.values_list("name", flat=True)) == {"promoting"}
    assert sorted(path.name for path in (root / "evaluations").iterdir()) == ["by-hand", "verdict"]
    assert (Evaluation.objects.count(), Attempt.objects.count()) == (2, 2)
    assert [slot.at for slot in Slot.objects.all()] == [THEN + timedelta(days=1)]  # the next one counts from it
    assert [notification.alert.key for notification in Notification.objects.all()] == ["new"]


def test_the_cost_of_a_night_is_not_the_number_of_records_times_the_cost_of_a_look(root: Path) -> None:
    stack = make_champion()
    for number in range(12):
        night = Pipeline.objects.create(
            name=f"night-{number}", kind=Pipeline.Kind.REEVALUATE, outcome="succeeded", finished_at=THEN
        )
        evaluated(root, f"night-{number}", stack.router, night)
        make_run(f"single-{number}", Status.FAILED, finished_at=THEN)
        old(root, f"dataset-{number}")
    with CaptureQueriesContext(connection) as asked:
        assert len(pruned()) == 12 * 6  # evaluation and pipeline, run, two datasets and the job's folder
    looks = [query["sql"] for query in asked if '"adapters_alias"' in query["sql"]]
    assert len(looks) <= 6
    assert not [query["sql"] for query in asked if '"spec"' in query["sql"] or '"summary"' in query["sql"]]


def test_an_evaluation_goes_with_the_last_run_that_has_it(root: Path) -> None:
    stack = make_champion()
    ended: dict[str, Any] = {"kind": Pipeline.Kind.REEVALUATE, "outcome": "succeeded", "finished_at": THEN}
    first = evaluated(root, "first", stack.router, Pipeline.objects.create(name="first", **ended))
    again = {"pipeline": Pipeline.objects.create(name="second", **ended), "evaluation": first.evaluation}
    second = make_run("second", Status.SUCCEEDED, kind="evaluate", finished_at=timezone.now(), **again)
    assert sorted(pruned()) == ["pipeline first, 1 runs"]
    Run.objects.filter(pk=second.pk).update(finished_at=THEN)
    pruned()
    assert not Run.objects.exists()
    assert not Evaluation.objects.exists()
    assert list((root / "evaluations").iterdir()) == []


def test_what_cannot_be_looked_at_keeps_nothing_else_from_going(root: Path) -> None:
    old(root, "a")
    (root / "jobs" / ".partial-x").symlink_to(root / "nowhere")
    assert "routing dataset a" in pruned()


@pytest.mark.usefixtures("root")
def test_of_sessions_log_ins_and_changes_in_the_admin_what_is_old_goes() -> None:
    now = timezone.now()
    user = User.objects.create_user("somebody")
    for name, then in (("old", THEN), ("new", now)):
        Session.objects.create(session_key=name, expire_date=then + timedelta(days=1))
        AccessLog.objects.create(username=name)
        AccessLog.objects.filter(username=name).update(attempt_time=then)
        AccessFailureLog.objects.create(username=name)
        AccessFailureLog.objects.filter(username=name).update(attempt_time=then)
        LogEntry.objects.create(user=user, object_repr=name, action_flag=CHANGE, action_time=then)
    listed = pruned(dry_run=True)
    assert listed == ["session: 1 rows", "access log: 1 rows", "access failure: 1 rows", "log entry: 1 rows"]
    assert pruned() == listed
    assert Session.objects.get().pk == "new"
    assert AccessLog.objects.get().username == AccessFailureLog.objects.get().username == "new"
    assert LogEntry.objects.get().object_repr == "new"


def test_a_session_that_was_renewed_after_it_was_listed_stays(root: Path) -> None:
    Session.objects.create(session_key="a", expire_date=THEN)
    listed = list(doomed())
    Session.objects.update(expire_date=timezone.now() + timedelta(days=1))
    delete(listed)
    assert Session.objects.exists()


def _count() -> list[int]:
    models: list[type[Model]] = [Run, Attempt, Evaluation, Pipeline, Slot, Alert, Notification]
    return [model._default_manager.count() for model in models]


@pytest.mark.usefixtures("new_installation")
def test_a_new_installation_deletes_every_night_and_never_beside_another_long_task(root: Path) -> None:
    assert PeriodicTask.objects.get(task=tasks.prune.name).enabled
    checkpoints = tried(root)
    with alone(LONG_STEP):
        tasks.prune()
        assert checkpoints.exists()
    tasks.prune()
    assert not checkpoints.exists()
