"""What is seen of runs that are waited for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cast import make_run
from workers.management import watch as watching
from workers.management.watch import NO_WORKER, watch, watch_pipeline
from workers.models import Heartbeat, Pipeline, Run
from workers.services import heartbeats
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`meanwhile(first, second, ...)`: what happens at each look at the rows, instead of time passing."""

    def told(*events: Callable[[], object]) -> None:
        left = iter(events)
        monkeypatch.setattr("workers.management.watch.time.sleep", lambda seconds: next(left)())
        monkeypatch.setattr(watching, "PATIENCE", 0.0)

    return told


@pytest.fixture
def worker() -> None:
    """One that lives."""
    heartbeats._written.clear()
    heartbeats.beat("worker")


def change(**fields: object) -> Callable[[], object]:
    return lambda: Run.objects.update(**fields)


@pytest.mark.usefixtures("worker")
def test_trouble_is_said_whenever_it_changes(
    meanwhile: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run, words = make_run("prep"), ["Modal does not answer.", "There is no room."]
    same = [change(trouble=words[0]), change(trouble=words[0]), change(trouble=""), change(trouble=words[0])]
    meanwhile(*same, change(trouble=words[1]), change(status=Status.SUCCEEDED, trouble=""))
    watch([run])
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "prep: " in line and line.strip() not in ("prep: queued", "prep: succeeded")] == [
        f"  prep: {word}" for word in words
    ]
    assert NO_WORKER not in said
    assert run.status == Status.SUCCEEDED


def test_that_no_worker_lives_is_said_once(meanwhile: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    meanwhile(change(), change(), change(status=Status.SUCCEEDED))
    watch([make_run("prep")])
    assert capsys.readouterr().err.count(NO_WORKER) == 1


def test_it_is_not_said_before_a_worker_could_have_come(
    meanwhile: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    meanwhile(change(), change(status=Status.SUCCEEDED))
    monkeypatch.setattr(watching, "PATIENCE", 1000.0)
    watch([make_run("prep")])
    assert NO_WORKER not in capsys.readouterr().err


@pytest.mark.usefixtures("worker")
def test_what_keeps_a_pipeline_from_its_verdict_is_said(
    meanwhile: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline.objects.create(name="add")
    make_run("add", Status.SUCCEEDED, pipeline=pipeline)
    meanwhile(
        lambda: Pipeline.objects.update(trouble="The engine does not answer."),
        lambda: Heartbeat.objects.all().delete(),
        lambda: Pipeline.objects.update(outcome=Status.SUCCEEDED, trouble=""),
    )
    watch_pipeline(pipeline)
    assert capsys.readouterr().err.splitlines() == ["  add: The engine does not answer.", NO_WORKER]
