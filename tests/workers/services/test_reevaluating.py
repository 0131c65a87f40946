"""A fall is found by a test, told, and by policy undone."""

from __future__ import annotations

from itertools import product

import pytest
from scipy.stats import fisher_exact

from adapters.models import Alias, Evaluation, Promotion, Stack
from adapters.services import switch_champion
from inference.routing.verdict import fisher
from tests.cast import digest, make_run
from tests.workers.services.conftest import RecordingEngine
from tests.workers.services.test_concluding import GOOD, World, evaluated
from workers.models import Pipeline, Run
from workers.services import conclude_all
from workers.services.reevaluating import fall
from workers.states import Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(engine: RecordingEngine) -> World:
    """Where the challenger has gone live, on 120 of 120."""
    world = World()
    evaluation = evaluated(world.version, world.stack, GOOD)
    switch_champion(world.stack, previous=world.serving, evaluation=evaluation)
    return world


def vigil(world: World, now: Evaluation, *, rollback: bool, name: str = "vigil") -> Pipeline:
    wish = {"stack": world.stack.digest, "rollback": rollback}
    pipeline = Pipeline.objects.create(name=name, kind=Pipeline.Kind.REEVALUATE, wish=wish)
    make_run(name, Status.SUCCEEDED, kind=Run.Kind.EVALUATE, pipeline=pipeline, evaluation=now)
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


def test_without_the_policy_a_fall_is_only_told(world: World) -> None:
    pipeline = vigil(world, evaluated(world.version, world.stack, {**GOOD, "calendar": 25}), rollback=False)
    assert "a significant fall" in pipeline.verdict
    assert live() == world.stack


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
