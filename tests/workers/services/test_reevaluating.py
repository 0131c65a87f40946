"""A fall is found by a test, told, and by policy undone."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from django.utils import timezone
from scipy.stats import fisher_exact

from adapters.models import Alias, Evaluation, Promotion, Stack
from adapters.promotion.statistics import fisher
from adapters.services import switch_champion
from adapters.switch import Switch
from datasets_app.errors import InputError
from inference.engines.base import EngineError
from tests.cast import digest, make_run
from tests.workers.services.conftest import RecordingEngine
from tests.workers.services.test_concluding import GOOD, World, evaluated
from workers.models import Alert, Pipeline, Run
from workers.services import conclude_all
from workers.services.reevaluating import fall
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(engine: RecordingEngine) -> World:
    """Where the challenger has gone live, on 120 of 120."""
    world = World()
    evaluation = evaluated(world.version, world.stack, GOOD)
    switch_champion(Switch(world.stack, world.serving, evaluation))
    return world


def vigil(world: World, now: Evaluation, *, rollback: bool, name: str = "vigil") -> Pipeline:
    wish = {"stack": world.stack.digest, "rollback": rollback}
    pipeline = Pipeline.objects.create(name=name, kind=Pipeline.Kind.REEVALUATE, wish=wish)
    row = {"kind": Run.Kind.EVALUATE, "pipeline": pipeline, "evaluation": now}
    make_run(name, Status.SUCCEEDED, finished_at=timezone.now(), **row)
    conclude_all()
    pipeline.refresh_from_db()
    return pipeline


def live() -> Stack:
    return Alias.objects.get(name="champion").stack


def test_no_fall_is_no_alert(world: World) -> None:
    pipeline = vigil(world, evaluated(world.version, world.stack, {**GOOD, "calendar": 38}), rollback=True)
    assert "no significant fall" in pipeline.verdict
    assert live() == world.stack


def test_a_fall_on_the_same_samples_goes_back_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    now = evaluated(world.version, world.stack, {**GOOD, "calendar": 25})
    pipeline = vigil(world, now, rollback=True)
    assert "exact McNemar test" in pipeline.verdict
    assert "Rolled back" in pipeline.verdict
    assert live() == world.serving == pipeline.promoted
    assert Promotion.objects.latest("id").is_rollback
    assert any(record.levelname == "ERROR" and "significant fall" in record.message for record in caplog.records)
    again = vigil(world, now, rollback=True, name="again")
    assert "Another router serves by now" in again.verdict
    assert live() == world.serving


def test_a_stack_that_went_live_without_a_figure_is_held_to_its_first(world: World) -> None:
    Promotion.objects.update(evaluation=None)
    Evaluation.objects.all().delete()
    first = evaluated(world.version, world.stack, GOOD)
    assert "no earlier figure to compare with" in vigil(world, first, rollback=True).verdict
    second = evaluated(world.version, world.stack, GOOD)
    assert "no significant fall" in vigil(world, second, rollback=True, name="second").verdict
    third = evaluated(world.version, world.stack, {**GOOD, "calendar": 25})
    assert "Rolled back" in vigil(world, third, rollback=True, name="third").verdict


def test_without_the_policy_a_fall_is_only_told(world: World) -> None:
    pipeline = vigil(world, evaluated(world.version, world.stack, {**GOOD, "calendar": 25}), rollback=False)
    assert "a significant fall" in pipeline.verdict
    assert live() == world.stack


@pytest.fixture
def alerts(settings: Any) -> Any:
    """What people were alerted to so far."""
    settings.NOTIFY = {**settings.NOTIFY, "EMAILS": ["op@example.org"]}
    return lambda: list(Alert.objects.filter(level="alert").order_by("id").values_list("text", flat=True))


def test_a_fall_is_told_once_while_the_engine_is_down_and_undone_when_it_is_back(
    world: World, engine: RecordingEngine, alerts: Any
) -> None:
    engine.error = EngineError("The engine is not running.")
    pipeline = vigil(world, evaluated(world.version, world.stack, {**GOOD, "calendar": 25}), rollback=True)
    conclude_all()
    assert (pipeline.outcome, live()) == ("", world.stack)
    (told,) = alerts()
    assert "a significant fall" in told
    engine.error = None
    conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, live()) == ("succeeded", world.serving)
    assert "Rolled back" in pipeline.verdict
    assert len(alerts()) == 1


@pytest.mark.parametrize("error", [InputError("Its files are broken."), EngineError("The engine is not running.")])
def test_a_rollback_that_fails_keeps_the_words_of_the_fall_and_is_an_alert_itself(
    world: World, engine: RecordingEngine, alerts: Any, error: Exception
) -> None:
    engine.error = error
    pipeline = vigil(world, evaluated(world.version, world.stack, {**GOOD, "calendar": 25}), rollback=True)
    Pipeline.objects.update(failing_since=timezone.now() - timedelta(hours=1))
    conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, live()) == ("failed", world.stack)
    assert "a significant fall" in pipeline.verdict
    assert str(error) in pipeline.verdict
    fall, failure = alerts()
    assert "a significant fall" in fall
    assert str(error) in failure


def test_a_fall_on_the_held_out_samples_counts_though_fresh_ones_could_not_be_drawn(world: World, alerts: Any) -> None:
    wish = {"stack": world.stack.digest, "rollback": True}
    pipeline = Pipeline.objects.create(name="night", kind=Pipeline.Kind.REEVALUATE, wish=wish)
    now = evaluated(world.version, world.stack, {**GOOD, "calendar": 25})
    make_run("held-out", Status.SUCCEEDED, kind=Run.Kind.EVALUATE, pipeline=pipeline, evaluation=now)
    make_run("fresh", Status.FAILED, kind=Run.Kind.GENERATE_DATASET, pipeline=pipeline, step=1, error="No such folder.")
    make_run("rest", Status.CANCELLED, pipeline=pipeline, step=2)
    conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, live()) == ("failed", world.serving)
    assert "a significant fall" in alerts()[0]
    assert "Step 2 of 3, generate_dataset, failed: No such folder." in pipeline.verdict


def test_a_vigil_that_failed_is_an_alert(world: World, alerts: Any) -> None:
    """Else watching would stop without a word."""
    pipeline = Pipeline.objects.create(name="night", kind=Pipeline.Kind.REEVALUATE, wish={"stack": world.stack.digest})
    make_run("held-out", Status.FAILED, kind=Run.Kind.EVALUATE, pipeline=pipeline, error="Out of memory.")
    conclude_all()
    assert alerts() == ["Pipeline night failed: Step 1 of 1, evaluate, failed: Out of memory."]


def test_fresh_samples_are_compared_by_another_test(world: World) -> None:
    then = evaluated(world.version, world.stack, GOOD)
    now = evaluated(world.version, world.stack, {**GOOD, "calendar": 20})
    now.report = {"samples": [{**sample, "id": f"x{sample['id']}"} for sample in now.report["samples"]]}
    now.dataset_digest = digest("fresh")
    is_fall, words = fall(then, now)
    assert is_fall
    assert "Fisher" in words


def test_fisher_agrees_with_scipy() -> None:
    for right_then, right_now in product((0, 3, 17, 20), (0, 2, 11, 12)):
        table = [[right_now, 12 - right_now], [right_then, 20 - right_then]]
        expected = fisher_exact(table, alternative="less").pvalue
        assert fisher(right_then, 20, right_now, 12) == pytest.approx(expected, abs=1e-9)
