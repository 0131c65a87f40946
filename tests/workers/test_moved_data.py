"""A data folder that was moved: what lay in it is found where it lies now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from adapters.models import Evaluation
from adapters.services import configured_base
from datasets_app.models import PreparedDataset, RoutingDataset, SourceDataset
from datasets_app.samples.source import write_source
from datasets_app.services import register_source
from tests.cast import make_champion, make_evaluation, make_prepared, make_routing_dataset, make_run
from workers.models import Run
from workers.services.reuse import result_folder, take_result
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def data(tmp_path: Path, settings: Any) -> Path:
    settings.DATA_ROOT = tmp_path / "before"
    settings.DATA_ROOT.mkdir()
    return tmp_path / "before"


def move(data: Path, settings: Any) -> Path:
    settings.DATA_ROOT = data.rename(data.with_name("after"))
    return data.with_name("after")


def stored(model: type, column: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {model._meta.db_table}")  # type: ignore[attr-defined]  # noqa: S608
        return [str(value) for (value,) in cursor.fetchall()]


def test_a_report_is_shown(data: Path, settings: Any, client: Client) -> None:
    folder = data / "evaluations" / "first"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<p>The report</p>")
    evaluation = make_evaluation(make_champion().router, str(folder))
    assert stored(Evaluation, "path") == ["evaluations/first"]
    after = move(data, settings)
    client.force_login(User.objects.create_superuser("root"))
    page = client.get(f"/admin/adapters/evaluation/{evaluation.pk}/report/")
    assert (page.status_code, b"The report" in page.content) == (200, True)
    assert Evaluation.objects.get(path=str(after / "evaluations" / "first")) == evaluation


def test_equal_work_is_reused(data: Path, settings: Any) -> None:
    dataset = make_routing_dataset()
    prepared = make_prepared(dataset)
    for row, kind in ((dataset, "datasets"), (prepared, "prepared")):
        row.path = str(data / kind / dataset.name)
        row.save()
        Path(row.path).mkdir(parents=True)
    make_run("first", Status.SUCCEEDED, fingerprint="equal", prepared_dataset=prepared)
    after = move(data, settings)
    again = make_run("again", fingerprint="equal", reuse=True)
    assert take_result(again)
    again = Run.objects.get(name="again")
    assert result_folder(again) == after / "prepared" / dataset.name
    assert RoutingDataset.objects.get().path == str(after / "datasets" / dataset.name)
    assert PreparedDataset.objects.get(path=str(after / "prepared" / dataset.name)) == prepared


def test_the_work_of_a_run_under_way_is_found(data: Path, settings: Any) -> None:
    spec = {"data": f"{data}/prepared/a", "note": "/elsewhere/b", "sources": [{"path": f"{data}/samples/c"}], "n": 1}
    run = make_run("first", spec=spec)
    assert str(data) not in stored(Run, "spec")[0]
    assert Run.objects.get(pk=run.pk).spec == spec
    after = move(data, settings)
    moved = Run.objects.get(pk=run.pk)
    assert moved.spec == {**spec, "data": f"{after}/prepared/a", "sources": [{"path": f"{after}/samples/c"}]}
    moved.save()
    assert list(Run.objects.filter(spec__data=f"{after}/prepared/a").values_list("spec__data", flat=True)) == [
        f"{after}/prepared/a"
    ]


def test_a_source_elsewhere_stays_where_its_owner_keeps_it(data: Path, settings: Any, tmp_path: Path) -> None:
    own = write_source("calendar", tmp_path / "own", 4, seed=1)
    drawn = write_source("calendar", data / "samples" / "calendar", 4, seed=1)
    for name, folder in (("own", own), ("drawn", drawn)):
        register_source(name, folder)
    assert stored(SourceDataset, "path") == [str(own), "samples/calendar"]
    after = move(data, settings)
    paths = dict(SourceDataset.objects.values_list("name", "path"))
    assert paths == {"own": str(own), "drawn": str(after / "samples" / "calendar")}
    assert register_source("drawn", after / "samples" / "calendar").rows == 4


def test_the_base_of_a_moved_repository_is_read_where_it_lies_now() -> None:
    base = configured_base()
    path = base.path
    type(base).objects.update(path="/nowhere")
    assert configured_base().path == path
    assert type(base).objects.get().path == path
