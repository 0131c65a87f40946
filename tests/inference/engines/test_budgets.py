"""Stacks whose adapters see a screenshot in different pixel budgets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image

from datasets_app.formats.pictures import decode
from inference.engines.base import EngineBusy, EngineError
from inference.engines.in_process import InProcessEngine
from inference.engines.in_process.jobs import Deployment, Job
from inference.engines.in_process.prompts import Pixels, PromptBuilder
from inference.engines.in_process.waiting import Waiting
from inference.engines.types import Decision, Request
from tests.inference.engines.running import eventually, expected, running
from tests.inference.engines.truth import Truth

ROUTERS, OTHER = (1024, 9216), (1024, 4096)  # the router's and most experts' budget, and that of "an"


@pytest.fixture(scope="module")
def asked(world: Any, truth: Truth, direct: list[Request]) -> dict[str, Request]:
    """A request that the router gives to "an", and one that it gives to an expert of its own budget."""
    other = next(r for r in world.requests(24) if truth.route(world.folders["router"], r) == "an")
    return {"an": other, "own": direct[0]}


@contextmanager
def kept_away(engine: InProcessEngine) -> Iterator[threading.Event]:
    """No screenshot gets ready in the other budget inside; yields what is set when one is on its way."""
    begun, release, pixels = threading.Event(), threading.Event(), engine._runner.prompts.pixels

    def waits(image: Image.Image, *budget: int) -> Pixels:
        if budget == OTHER:
            begun.set()
            assert release.wait(60)
        return pixels(image, *budget)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine._runner.prompts, "pixels", waits)
        try:
            yield begun
        finally:
            release.set()


def test_a_screenshot_is_prepared_for_the_router_and_the_chosen_expert_alone(
    world: Any, asked: dict[str, Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    pixels = PromptBuilder.pixels
    with running(world) as engine:
        monkeypatch.setattr(
            PromptBuilder, "pixels", lambda self, image, *budget: seen.append(budget) or pixels(self, image, *budget)
        )
        for ask, budgets in ((engine.infer, [ROUTERS, OTHER]), (engine.route, [ROUTERS])):
            seen.clear()
            ask(asked["an"])
            assert seen == budgets
        seen.clear()
        engine.infer(asked["own"])
        assert seen == [ROUTERS]


def test_while_one_is_prepared_again_others_are_answered(world: Any, truth: Truth, asked: dict[str, Request]) -> None:
    with running(world) as engine:
        with kept_away(engine):
            events = engine.stream(asked["an"])
            assert isinstance(next(events), Decision)
            assert engine.infer(asked["own"]).text == expected(world, truth, asked["own"])[1]
            assert engine.status()["waiting"] == 1
        *_, result = events
        assert getattr(result, "text", None) == expected(world, truth, asked["an"])[1]
        assert engine.status()["waiting"] == 0


def test_who_is_prepared_again_keeps_a_place_in_the_queue(world: Any, asked: dict[str, Request]) -> None:
    with running(world, queue=1) as engine:
        with kept_away(engine) as begun:
            away = engine.submit_infer(asked["an"])
            assert begun.wait(20)
            with pytest.raises(EngineBusy, match="full"):
                engine.infer(asked["own"])
        assert away.result(20).text
        assert engine.infer(asked["own"]).text


def test_who_leaves_while_being_prepared_again_holds_nothing(world: Any, asked: dict[str, Request]) -> None:
    with running(world) as engine:
        with kept_away(engine) as begun:
            left = engine.submit_infer(asked["an"])
            assert begun.wait(20)
            assert left.cancel()
        with pytest.raises(CancelledError):
            left.result()
        eventually(lambda: engine.status()["waiting"] == 0)
        assert {resident.pins for resident in engine._pool._residents.values()} == {1}


def test_an_engine_that_closes_refuses_who_is_prepared_again(world: Any, asked: dict[str, Request]) -> None:
    with running(world) as engine, ThreadPoolExecutor(1) as thread:
        with kept_away(engine) as begun:
            events = engine.stream(asked["an"])
            next(events)
            assert begun.wait(20)
            closed = thread.submit(engine.close)
            eventually(lambda: not engine._scheduler._thread.is_alive())
        closed.result(20)
        with pytest.raises(EngineError, match="closed"):
            list(events)


def test_who_has_been_routed_goes_before_who_has_not() -> None:
    waiting, stack = Waiting(), Deployment("a", None, {})
    decision: Any = object()
    for words, chosen in (("1", None), ("2", decision), ("3", None), ("4", decision)):
        waiting.put(Job(stack, 0.0, words=words, decision=chosen))
    assert [job.words for job in waiting.take(9, 9)] == ["2", "4", "1", "3"]


def test_threads_that_prepare_at_once_do_not_meet(world: Any) -> None:
    builder = PromptBuilder(world.processor)
    images = [decode(request.image) for request in world.requests(12)] * 4
    budgets = [ROUTERS, OTHER, (2048, 2048)] * 16
    alone = [builder.pixels(image, *budget) for image, budget in zip(images, budgets, strict=True)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda image, budget: builder.pixels(image, *budget), images, budgets))
    for one, other in zip(alone, together, strict=True):
        assert one.grid.equal(other.grid) and one.values.equal(other.values)
