"""Which prepared form of a dataset a run reads, where there are several."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from adapters.models import AdapterVersion
from adapters.services import add_version, configured_base, register_adapter
from datasets_app.errors import InputError
from datasets_app.models import PreparedDataset, SourceDataset
from tests.adapter_files import write_expert
from tests.cast import digest, make_routing_dataset, make_source
from workers.admin.adapters import evaluation_of
from workers.kinds import get_kind
from workers.models import Pipeline, Run
from workers.services import cancel, launch, launch_expert_pipeline, prune, retry
from workers.services.reuse import fingerprint
from workers.services.starting import start
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def source() -> SourceDataset:
    """An expert's examples."""
    source = make_source("calendar")
    register_adapter("calendar", source=source)
    return source


def prepare(source: SourceDataset, folder: Path, **params: Any) -> PreparedDataset:
    """What a run by hand has made of the source; the newest."""
    folder.mkdir()
    facts = {"base": configured_base().fingerprint, "digest": digest(folder.name), "stats": {}}
    prepared = PreparedDataset.objects.create(source_dataset=source, path=str(folder), **facts)
    run = Run(name=folder.name, kind="preprocess", params={"dataset": source.name, **params}, backend="local")
    run.status, run.prepared_dataset = Status.SUCCEEDED, prepared
    run.fingerprint = fingerprint(run.kind, get_kind(run.kind).resolve(run))
    run.save()
    return prepared


def read_by(run: Run) -> PreparedDataset:
    """What the run would be given to read now."""
    return PreparedDataset.objects.get(path=get_kind(run.kind).resolve(run).spec["data"])


def trained(run: Run, files: Path) -> AdapterVersion:
    """The run's result, as if it had been launched now and had succeeded."""
    resolved = get_kind(run.kind).resolve(run)
    run.inputs, run.spec, run.status = resolved.inputs, resolved.spec, Status.SUCCEEDED
    run.adapter_version = add_version(register_adapter("calendar"), write_expert(files))
    run.save()
    return run.adapter_version


def train_by_hand(tmp_path: Path) -> AdapterVersion:
    return trained(launch("train", {"dataset": "calendar", "adapter": "calendar"}, name="train"), tmp_path / "files")


def test_a_pipeline_goes_on_from_what_its_own_step_prepared(source: SourceDataset, tmp_path: Path) -> None:
    """Also where that took an earlier result, and others have prepared the dataset otherwise since."""
    own = prepare(source, tmp_path / "own")
    prepare(source, tmp_path / "before", seed=7)
    pipeline = launch_expert_pipeline("calendar")
    preprocess, train, evaluate = pipeline.steps
    start(preprocess)
    assert (preprocess.status, preprocess.prepared_dataset) == (Status.SUCCEEDED, own)
    prepare(source, tmp_path / "meanwhile", seed=8)
    assert read_by(train) == own
    trained(train, tmp_path / "files")
    assert read_by(evaluate) == own


def test_a_step_that_is_tried_again_reads_the_same(source: SourceDataset, tmp_path: Path) -> None:
    own = prepare(source, tmp_path / "own")
    pipeline = launch_expert_pipeline("calendar")
    start(pipeline.steps[0])
    for run in pipeline.steps[1:]:
        cancel(run)
    prepare(source, tmp_path / "other", seed=7)
    again = retry(pipeline.steps[1])
    assert read_by(again) == own


def test_what_a_pipeline_prepared_is_replaced_by_nothing_else(source: SourceDataset, tmp_path: Path) -> None:
    own = prepare(source, tmp_path / "own")
    pipeline = launch_expert_pipeline("calendar")
    start(pipeline.steps[0])
    prepare(source, tmp_path / "other", seed=7)
    own.delete()
    with pytest.raises(InputError, match=r"'calendar' .* has been deleted"):
        read_by(pipeline.steps[1])


def test_a_run_by_hand_reads_the_newest(source: SourceDataset, tmp_path: Path) -> None:
    prepare(source, tmp_path / "first")
    newest = prepare(source, tmp_path / "second", seed=7)
    assert read_by(launch("train", {"dataset": "calendar", "adapter": "calendar"})) == newest


def test_a_version_is_evaluated_on_what_it_was_trained_from(source: SourceDataset, tmp_path: Path) -> None:
    """Other forms of the dataset may hold out what it has learnt."""
    own = prepare(source, tmp_path / "own")
    version = train_by_hand(tmp_path)
    assert version.runs.get().inputs == {"prepared_dataset": own.pk}
    prepare(source, tmp_path / "other", seed=7)
    for subject in (evaluation_of(version), {"adapter": "calendar", "dataset": "calendar"}):
        assert read_by(launch("evaluate", subject)) == own


def test_the_page_of_a_version_says_what_it_was_trained_from(
    source: SourceDataset, tmp_path: Path, admin_client: Client
) -> None:
    own = prepare(source, tmp_path / "own")
    version = train_by_hand(tmp_path)
    prepare(source, tmp_path / "other", seed=7)
    page = admin_client.get(f"/admin/adapters/adapterversion/{version.pk}/change/").content.decode()
    assert re.findall(r"/admin/datasets_app/prepareddataset/(\d+)/", page) == [str(own.pk)]


def test_on_another_dataset_a_version_is_asked_its_newest_form(source: SourceDataset, tmp_path: Path) -> None:
    prepare(source, tmp_path / "own")
    train_by_hand(tmp_path)
    other = make_source("diary")
    prepare(other, tmp_path / "first")
    newest = prepare(other, tmp_path / "second", seed=7)
    assert read_by(launch("evaluate", {"adapter": "calendar", "dataset": "diary"})) == newest


def test_what_a_version_was_trained_from_is_replaced_by_nothing_else(source: SourceDataset, tmp_path: Path) -> None:
    own = prepare(source, tmp_path / "own")
    version = train_by_hand(tmp_path)
    prepare(source, tmp_path / "other", seed=7)
    own.delete()
    with pytest.raises(InputError, match=r"'calendar' .* has been deleted"):
        read_by(launch("evaluate", evaluation_of(version)))


def test_a_run_by_hand_that_is_tried_again_reads_the_same(source: SourceDataset, tmp_path: Path) -> None:
    """The same work. Launched anew, it reads the newest."""
    own = prepare(source, tmp_path / "own")
    params = {"dataset": "calendar", "adapter": "calendar"}
    first = launch("train", params, name="train")
    first.inputs = get_kind("train").resolve(first).inputs
    first.save()
    cancel(first)
    newest = prepare(source, tmp_path / "other", seed=7)
    again = retry(first)
    assert read_by(again) == own
    cancel(again)
    anew = launch("train", params, name="train")
    assert read_by(anew) == newest


def test_an_evaluation_that_is_tried_again_asks_a_newer_version_what_that_was_trained_from(
    source: SourceDataset, tmp_path: Path
) -> None:
    prepare(source, tmp_path / "own")
    version = train_by_hand(tmp_path)
    run = launch("evaluate", {"adapter": "calendar", "dataset": "calendar"}, name="evaluate")
    run.inputs = get_kind("evaluate").resolve(run).inputs
    run.save()
    cancel(run)
    other = prepare(source, tmp_path / "other", seed=7)
    version.runs.update(inputs={"prepared_dataset": other.pk})  # as if it were another version
    assert read_by(retry(run)) == other


def test_training_from_another_form_of_the_dataset_is_other_work(source: SourceDataset, tmp_path: Path) -> None:
    """It takes no equal result."""
    run = Run(kind="train", params={"dataset": "calendar", "adapter": "calendar"})
    works = set()
    for number in range(2):
        prepare(source, tmp_path / str(number), seed=number)
        works.add(fingerprint("train", get_kind("train").resolve(run)))
    assert len(works) == 2


def test_what_a_current_version_was_trained_from_is_never_deleted(
    source: SourceDataset, tmp_path: Path, settings: Any
) -> None:
    settings.DATA_ROOT = tmp_path
    own = prepare(source, tmp_path / "own")
    train_by_hand(tmp_path)
    prepare(source, tmp_path / "other", seed=7)
    then = timezone.now() - timedelta(days=730)
    PreparedDataset.objects.update(created_at=then)
    Run.objects.update(created_at=then, finished_at=then)
    Pipeline.objects.update(finished_at=then)
    list(prune(dry_run=False))
    assert Path(PreparedDataset.objects.get(pk=own.pk).path).is_dir()


@pytest.mark.parametrize(("make", "format"), [(make_source, "llava"), (make_routing_dataset, "routing")])
def test_a_folder_is_prepared_as_what_it_was_registered_as(make: Any, format: str) -> None:
    made = make("calendar") if format == "llava" else make()
    run = Run(name="prepare", kind="preprocess", params={"dataset": made.name}, backend="local")
    assert get_kind("preprocess").resolve(run).spec["format"] == format


def test_an_evaluation_is_told_what_its_version_was_trained_on(source: SourceDataset, tmp_path: Path) -> None:
    """Whatever dataset it asks about; and nothing of files from elsewhere."""
    learnt = prepare(source, tmp_path / "learnt")
    train_by_hand(tmp_path)
    other = make_source("other")
    prepare(other, tmp_path / "other")
    run = launch("evaluate", {"adapter": "calendar", "dataset": "other"}, name="elsewhere")
    resolved = get_kind(run.kind).resolve(run)
    assert resolved.spec["trained_on"] == [str(tmp_path / "learnt")]
    assert resolved.digests[learnt.path] == learnt.digest
    add_version(register_adapter("calendar"), write_expert(tmp_path / "imported", with_card=False))
    run = launch("evaluate", {"adapter": "calendar", "dataset": "other"}, name="imported")
    assert get_kind(run.kind).resolve(run).spec["trained_on"] == []
