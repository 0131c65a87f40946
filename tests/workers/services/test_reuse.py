"""Inputs that have not changed are not worked on again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.services import configured_base
from datasets_app.models import SourceDataset
from datasets_app.selectors import get_prepared
from datasets_app.services import register_source
from tests.cast import make_prepared, make_routing_dataset
from workers.kinds import generate_dataset, train
from workers.kinds.base import Resolved
from workers.models import Run
from workers.recipes import packages
from workers.selectors import find_dataset
from workers.services import advance_all, launch
from workers.services.reuse import fingerprint
from workers.states import Status

Drive = Callable[..., Run]


def test_equal_work_takes_the_earlier_result(generate: dict[str, object], drive: Drive) -> None:
    first = drive(launch("generate_dataset", generate, name="routing_first"))
    assert first.status == Status.SUCCEEDED, first.error
    second = launch("generate_dataset", generate, name="routing_second", reuse=True)
    advance_all()
    second.refresh_from_db()
    assert (second.status, second.reused_from, second.attempts.count()) == (Status.SUCCEEDED, first, 0)
    assert second.summary == first.summary
    assert find_dataset("routing_second") == first.routing_dataset

    other = launch("generate_dataset", {**generate, "seed": 4}, name="routing_other", reuse=True)
    plain = launch("generate_dataset", generate, name="routing_plain")
    advance_all()
    assert {Run.objects.get(pk=run.pk).status for run in (other, plain)} == {Status.RUNNING}
    for run in (other, plain):
        drive(run)

    for run in Run.objects.filter(fingerprint=first.fingerprint):
        shutil.rmtree(run.routing_dataset.path, ignore_errors=True)  # type: ignore[union-attr]
    gone = launch("generate_dataset", generate, name="routing_gone", reuse=True)
    advance_all()
    gone.refresh_from_db()
    assert gone.status == Status.RUNNING
    drive(gone)


def test_a_source_that_has_changed_is_other_work(experts: list[str], tmp_path: Path) -> None:
    run = Run(params={"adapters": experts})
    before = fingerprint("generate_dataset", generate_dataset.resolve(run))
    assert fingerprint("generate_dataset", generate_dataset.resolve(run)) == before
    copy = shutil.copytree(SourceDataset.objects.get(name="calendar").path, tmp_path / "calendar")
    register_source("calendar", copy)
    assert fingerprint("generate_dataset", generate_dataset.resolve(run)) == before, "moved, not changed"
    rows = (copy / "data.jsonl").read_text().splitlines()
    (copy / "data.jsonl").write_text("\n".join(rows[1:]) + "\n")
    register_source("calendar", copy)
    assert fingerprint("generate_dataset", generate_dataset.resolve(run)) != before


def test_the_same_source_under_another_name_is_prepared_for_itself(experts: list[str], drive: Drive) -> None:
    """What was made for one dataset would not be found for the other."""
    calendar = SourceDataset.objects.get(name="calendar")
    copy = register_source("diary", Path(calendar.path))
    done = drive(launch("preprocess", {"dataset": "calendar"}, name="first", reuse=True))
    assert done.status == Status.SUCCEEDED, done.error
    own = launch("preprocess", {"dataset": "diary"}, name="second", reuse=True)
    again = launch("preprocess", {"dataset": "calendar"}, name="third", reuse=True)
    advance_all()
    again.refresh_from_db()
    assert (again.status, again.reused_from) == (Status.SUCCEEDED, done)
    own = drive(own)
    assert (own.status, own.reused_from) == (Status.SUCCEEDED, None), own.error
    base = configured_base().fingerprint
    assert get_prepared(copy, base).digest == get_prepared(calendar, base).digest


def test_equal_training_for_another_adapter_is_other_work(db: None) -> None:
    dataset = make_routing_dataset()
    prepared = make_prepared(dataset)
    prepared.base = configured_base().fingerprint
    prepared.save()
    work = [
        fingerprint("train", train.resolve(Run(params={"dataset": dataset.name, "adapter": name})))
        for name in ("router", "router", "second")
    ]
    assert work[0] == work[1] != work[2]


@pytest.mark.parametrize(
    ("kind", "library", "is_other_work"),
    [
        ("generate_dataset", "pillow", True),
        ("generate_dataset", "torch", False),
        ("preprocess", "transformers", True),
        ("preprocess", "trl", False),
        *(("train", library, True) for library in ("torch", "transformers", "peft", "trl")),
        ("evaluate", "peft", True),
    ],
)
def test_another_version_of_a_library_that_matters_is_other_work(
    monkeypatch: pytest.MonkeyPatch, kind: str, library: str, is_other_work: bool
) -> None:
    before = fingerprint(kind, Resolved({}))
    version = packages.version
    monkeypatch.setattr(packages, "version", lambda name: "99" if name == library else version(name))
    assert (fingerprint(kind, Resolved({})) != before) == is_other_work
