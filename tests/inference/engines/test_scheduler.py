"""Many requests at once: who is answered when, and that the company changes nobody's tokens."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.card import AdapterCard
from datasets_app.errors import InputError
from datasets_app.formats.pictures import decode
from inference.engines.base import EngineBusy, EngineError
from inference.engines.in_process import InProcessEngine, Limits, preparation, worker
from inference.engines.in_process.jobs import Deployment, Job
from inference.engines.in_process.lora import LoraSlots
from inference.engines.in_process.scheduler import FAILURES, Scheduler
from inference.engines.in_process.waiting import Waiting
from inference.engines.types import AdapterRef, Request, StackedResult, StackSpec, TextDelta
from tests.inference.engines.running import eventually, expected, running
from tests.inference.engines.small import make_adapter, make_image, make_model
from tests.inference.engines.truth import Truth


@contextmanager
def held(engine: InProcessEngine) -> Iterator[None]:
    """The engine's thread does nothing inside."""
    begun, release = threading.Event(), threading.Event()
    engine._scheduler.call(lambda: begun.set() or release.wait(60))
    assert begun.wait(20)
    try:
        yield
    finally:
        release.set()


@pytest.fixture(scope="module")
def slow(world: Any, direct: list[Request]) -> Request:
    """A request whose answer takes all the tokens that it may."""
    requests = [replace(request, max_tokens=250) for request in direct]
    with running(world) as engine:
        answers = engine.infer_many(requests)
    return next(r for r, answer in zip(requests, answers, strict=True) if answer.finish_reason == "length")


def test_company_changes_nobody_s_tokens(world: Any, truth: Truth) -> None:
    """Alone, together, and joining others at any time: as a fresh base with the one adapter."""
    requests = [replace(request, max_tokens=3 + 5 * (i % 4)) for i, request in enumerate(world.requests(24))]
    right = [expected(world, truth, request) for request in requests]
    experts = [expert for expert in world.stack.experts for _ in range(3)]
    said = [truth.answer(world.folders[expert.name], request) for expert, request in zip(experts, requests)]  # noqa: B905
    assert len({label for label, _ in right}) > 1
    assert len({text for _, text in right}) > 12 and len(set(said)) > 10
    with running(world, batch=5, joining=2, steps=1) as engine, ThreadPoolExecutor(12) as threads:
        alone = [engine.infer(request) for request in requests[:6]]
        together = engine.infer_many(requests)
        futures, direct = [], []
        for number, request in enumerate(requests):
            futures.append(threads.submit(engine.infer, request))
            if number < len(experts):
                direct.append(threads.submit(engine.generate_many, experts[number], [request]))
            time.sleep(0.004 * (number % 5))
        late = [future.result() for future in futures]
        assert [future.result() for future in direct] == [[text] for text in said]
    for results in (alone, together, late):
        assert [(result.decision.label, result.text) for result in results] == right[: len(results)]


def test_a_late_one_is_answered_while_another_decodes(world: Any, slow: Request, truth: Truth) -> None:
    with running(world) as engine:
        future = engine.submit_infer(slow)
        eventually(lambda: engine.status()["running"])
        late = [engine.infer(request) for request in world.requests(3)]
        assert not future.done()
        assert future.result().text == expected(world, truth, slow)[1]
    assert [(r.decision.label, r.text) for r in late] == [expected(world, truth, r) for r in world.requests(3)]


def test_neither_arrivals_nor_long_answers_starve(
    world: Any, slow: Request, direct: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[int] = []  # jobs that join together, or 0 for a step
    serve, step = worker.Worker.serve, worker.Worker.step
    monkeypatch.setattr(worker.Worker, "serve", lambda self, jobs: log.append(len(jobs)) or serve(self, jobs))
    monkeypatch.setattr(worker.Worker, "step", lambda self: log.append(0) or step(self))
    with running(world, batch=8, joining=2, steps=3) as engine:
        log.clear()
        future = engine.submit_infer(slow)
        eventually(lambda: engine.status()["running"])
        with held(engine):
            others = [engine.submit_infer(request) for request in direct[:6]]
            eventually(lambda: len(engine._scheduler._waiting) == 6)
        for other in others:
            other.result()
        assert not future.done()
    joins = [place for place, count in enumerate(log) if count]
    assert [log[place] for place in joins] == [1, 2, 2, 2]
    assert all(after - before >= 4 for before, after in pairwise(joins))


def test_stacks_take_turns_and_a_full_batch_still_routes() -> None:
    waiting = Waiting()
    one, two = (Deployment(name, None, {}) for name in "ab")
    jobs = [Job(one, 0.0, words=str(i)) for i in range(5)] + [Job(two, 0.0, words=str(i)) for i in range(2)]
    for job in jobs:
        waiting.put(job)
    assert [(job.deployment.digest, job.words) for job in waiting.take(5, 5)] == [
        ("a", "0"), ("b", "0"), ("a", "1"), ("b", "1"), ("a", "2"),
    ]  # fmt: skip
    route = Job(two, 0.0, words="route", answers=False)
    waiting.put(route)
    assert waiting.take(3, 0) == [route]
    assert len(waiting) == 2
    assert [job.words for job in waiting.take(9, 9)] == ["3", "4"]


def test_a_full_queue_is_busy_at_once_and_frees_its_places(world: Any) -> None:
    request = world.requests(1)[0]
    with running(world, queue=2) as engine:
        with held(engine):
            futures = [engine.submit_infer(request) for _ in range(2)]
            with pytest.raises(EngineBusy, match="full"):
                engine.infer(request)
            assert engine.status()["waiting"] == 2
        assert futures[0].result().text == futures[1].result().text == engine.infer(request).text


def test_large_pictures_take_more_places_of_the_queue(world: Any) -> None:
    request = world.requests(1)[0]
    large = replace(request, image=make_image(1, 2048, 2048))
    with running(world, queue=4) as engine:
        with held(engine):
            futures = [engine.submit_infer(large), engine.submit_infer(request)]
            assert engine.status()["waiting"] == 3
            with pytest.raises(EngineBusy, match="full"):
                engine.submit_infer(large)
            futures.append(engine.submit_infer(request))
        assert all(future.result().text for future in futures)
        assert engine.status()["waiting"] == 0
    with running(world, queue=1) as engine:
        assert engine.infer(large).text


def test_a_client_with_one_request_waits_for_one_batch_of_another_with_many(world: Any, direct: list[Request]) -> None:
    many = [replace(direct[0], client="many", max_tokens=40) for _ in range(16)]
    with running(world, batch=2) as engine:
        with held(engine):
            others = [engine.submit_infer(request) for request in many]
            one = engine.submit_infer(replace(direct[1], client="one", max_tokens=1))
            eventually(lambda: len(engine._scheduler._waiting) == 17)
        one.result()
        assert sum(other.done() for other in others) <= 2
        for other in others:
            other.result()


def test_a_model_that_finishes_no_step_is_stalled_until_it_does(world: Any) -> None:
    with running(world, stall_s=0.2) as engine:
        eventually(lambda: not engine.is_stalled)
        with held(engine):
            eventually(lambda: engine.is_stalled)
        eventually(lambda: not engine.is_stalled)
        assert engine.infer(world.requests(1)[0])


def test_time_that_a_request_waited_before_counts(world: Any) -> None:
    with running(world, deadline_s=50) as engine, pytest.raises(EngineBusy, match="waited 50 s"):
        engine.infer(replace(world.requests(1)[0], waited_s=51.0))


def test_one_stack_keeps_no_other_out_of_the_queue(world: Any) -> None:
    """It may fill it; another finds a place all the same."""
    mine = world.requests(1)[0]
    stack = replace(world.stack, experts=tuple(reversed(world.stack.experts)))
    theirs = replace(mine, stack=stack.digest)
    with running(world, queue=8) as engine:
        engine.deploy(stack)
        futures = []

        def take(request: Request, count: int) -> None:
            futures.extend(engine.submit_infer(request) for _ in range(count))
            with pytest.raises(EngineBusy, match="full"):
                engine.submit_infer(request)

        with held(engine):
            take(mine, 8)
            take(theirs, 1)
            assert engine.status()["waiting"] + engine.limits.batch < engine.places  # type: ignore[operator]
        assert len({future.result().text for future in futures}) == 1
        with held(engine):
            futures = [engine.submit_infer(theirs)]
            take(mine, 7)
            take(theirs, 0)
        assert len({future.result().text for future in futures}) == 1


def test_a_place_is_taken_before_the_image_is_decoded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come at once: few images are decoded at a time, and whom no place is left for is refused at once."""
    release, decoding = threading.Event(), [0, 0]  # now, and at most
    lock = threading.Lock()

    def slow(image: bytes) -> Any:
        with lock:
            decoding[0] += 1
            decoding[1] = max(decoding)
        release.wait(20)
        with lock:
            decoding[0] -= 1
        return decode(image)

    def ask(request: Request) -> str:
        try:
            return engine.infer(request).text
        except EngineBusy:
            with lock:
                refused.append(release.is_set())
            return "busy"

    monkeypatch.setattr(preparation, "decode", slow)
    requests, refused = world.requests(8) * 8, []
    with running(world, queue=16) as engine, ThreadPoolExecutor(64) as threads:
        answers = [threads.submit(ask, request) for request in requests]
        eventually(lambda: decoding[1] and len(refused) == 48)
        assert engine.status()["waiting"] == 16
        assert decoding[1] <= preparation.THREADS
        release.set()
        said = [answer.result() for answer in answers]
        assert not any(refused)
        assert engine.status()["waiting"] == 0
        assert said.count("busy") == 48
        assert all(text in (engine.infer(request).text, "busy") for text, request in zip(said, requests, strict=True))


def test_the_deadline_runs_while_others_are_prepared(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr(preparation, "decode", lambda image: decoded.append(time.sleep(0.3)) or decode(image))
    request = world.requests(1)[0]
    with running(world, deadline_s=0.2) as engine:
        futures = [engine.submit_infer(request) for _ in range(30)]
        left = engine.submit_infer(request)
        assert left.cancel()
        for future in futures:
            with pytest.raises(EngineBusy, match=r"waited 0\.2 s"):
                future.result(20)
        assert len(decoded) <= preparation.THREADS
        eventually(lambda: engine.status()["waiting"] == 0)
        assert {resident.pins for resident in engine._pool._residents.values()} == {1}


def test_a_decoded_image_is_not_kept(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images: list[weakref.ref[Any]] = []

    def watched(data: bytes) -> Any:
        image = decode(data)
        images.append(weakref.ref(image))
        return image

    monkeypatch.setattr(preparation, "decode", watched)
    with running(world) as engine:
        with held(engine):
            futures = [engine.submit_infer(request) for request in world.requests(3)]
            eventually(lambda: len(images) == 3 and not any(image() for image in images))
        assert all(future.result().tokens for future in futures)


def test_a_deadline_refuses_what_waits_and_cuts_off_what_is_being_answered(world: Any, slow: Request) -> None:
    """The wish for a long answer is no fault: it is told as far as it has come, and can be asked for again."""
    request = world.requests(1)[0]
    with running(world) as patient, running(world, deadline_s=1.5) as engine:
        slow = replace(slow, max_tokens=3900)
        decision, *deltas, cut = engine.stream(slow)
        assert isinstance(cut, StackedResult)
        assert cut.finish_reason == "deadline"
        assert 0 < cut.tokens < 3900
        assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == cut.text
        again = patient.infer(replace(slow, max_tokens=cut.tokens))
        assert (again.text, again.receipt, again.finish_reason) == (cut.text, cut.receipt, "length")
        assert decision == cut.decision

        with held(engine):
            late = engine.submit_infer(request)
            arrived = time.monotonic()
            eventually(lambda: time.monotonic() > arrived + 1.6)
        with pytest.raises(EngineBusy, match=r"waited 1\.5 s"):
            late.result()
        assert engine.infer(request).tokens > 0


def test_who_leaves_frees_a_place(world: Any, slow: Request) -> None:
    """While it waits, and while it is answered."""
    with running(world, batch=1) as engine:
        slow = replace(slow, max_tokens=3900)
        under_way, waiting = engine.submit_infer(slow), engine.submit_infer(slow)
        eventually(lambda: engine.status()["running"])
        assert waiting.cancel()
        assert under_way.cancel()
        assert engine.infer(world.requests(1)[0]).tokens > 0
        with pytest.raises(CancelledError):
            under_way.result()
        eventually(lambda: engine.status()["waiting"] == engine.status()["running"] == 0)
        assert {resident.pins for resident in engine._pool._residents.values()} == {1}


def test_a_failed_step_is_told_and_the_next_request_succeeds(world: Any) -> None:
    request = world.requests(1)[0]
    with running(world) as engine:
        before = engine.infer(request)
        for function in ("look", "name_log_likelihoods", "prefill", "step"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(worker, function, lambda *_: 1 / 0)
                with pytest.raises(EngineError, match="model step failed: ZeroDivisionError"):
                    engine.infer(request)
            assert engine.infer(request).text == before.text


def test_a_model_that_fails_at_every_pass_is_given_up(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, after some in a row; memory that runs out and a failure now and then are none of them."""
    request, given_up = world.requests(1)[0], threading.Event()
    with running(world, failed=given_up.set) as engine:

        def raiser(error: type[Exception]) -> Any:
            def look(*_: Any) -> None:
                raise error

            return look

        def fails(error: type[Exception], times: int) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(worker, "look", raiser(error))
                for _ in range(times):
                    with pytest.raises(EngineError, match=f"model step failed: {error.__name__}"):
                        engine.infer(request)

        fails(RuntimeError, FAILURES - 1)
        fails(torch.OutOfMemoryError, FAILURES)
        assert engine.infer(request).tokens
        fails(RuntimeError, FAILURES - 1)
        assert not given_up.is_set()
        expert = another(world, tmp_path / "expert", AdapterCard.read(world.folders["bo"]))
        monkeypatch.setattr(LoraSlots, "write", lambda *_: 1 / 0)
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            engine.load_model(expert)
        assert given_up.wait(20)
        for refused in (lambda: engine.infer(request), lambda: engine.load_model(expert)):
            with pytest.raises(EngineError, match="The model failed 5 times in a row"):
                refused()


def test_a_request_that_gives_no_numbers_fails_alone(world: Any) -> None:
    """While the adapter gives some for its canaries: in half precision, an image may be too much for the base."""
    request = world.requests(1)[0]
    broken = {
        "look": lambda views: [replace(view, embeds=view.embeds * math.inf) for view in views],
        "name_log_likelihoods": lambda rows: [row * math.nan for row in rows],
        "prefill": lambda prefilled: replace(prefilled, logits=prefilled.logits * math.nan),
        "step": lambda logits: logits * math.nan,
    }
    with running(world) as engine:
        before = engine.infer(request)
        for name, breaks in broken.items():
            with pytest.MonkeyPatch.context() as patch:
                original = getattr(worker, name)
                patch.setattr(worker, name, lambda *a, f=original, b=breaks: b(f(*a)))
                with pytest.raises(EngineError, match="gives no numbers for this request"):
                    engine.infer(request)
            assert engine.infer(request).text == before.text
        assert engine.status()["out_of_service"] == {}


def ruin(engine: InProcessEngine, adapter: AdapterRef) -> None:
    """Finite weights in the adapter's slot whose products are none, as no canary has seen them."""

    def write() -> None:
        slot = engine._pool.slot(adapter.digest)
        for module in engine._slots._modules.values():
            module.a[slot] = module.b[slot] = 1e37

    engine._scheduler.call(write).result()


def another(world: Any, folder: Path, card: AdapterCard) -> AdapterRef:
    return AdapterRef(
        folder.name, world.store.add(make_adapter(lambda: make_model(world.processor), folder, card)).digest
    )


def test_an_adapter_that_gives_no_numbers_is_taken_out_of_service(world: Any, truth: Truth, tmp_path: Path) -> None:
    requests = world.requests(12)
    right = [expected(world, truth, request) for request in requests]
    bad_label = right[0][0]
    bad = replace(another(world, tmp_path / "bad", AdapterCard.read(world.folders["an"])), name=bad_label)
    experts = tuple(bad if expert.name == bad_label else expert for expert in world.stack.experts)
    stack = replace(world.stack, experts=experts)
    with running(world) as engine:
        engine.deploy(stack)
        ruin(engine, bad)
        futures = [engine.submit_infer(replace(request, stack=stack.digest)) for request in requests]
        for future, (label, text) in zip(futures, right, strict=True):
            if label == bad_label:
                with pytest.raises(EngineError, match=f"{bad.digest} is out of service: its values are no numbers"):
                    future.result()
            else:
                assert future.result().text == text
        with pytest.raises(EngineError, match="out of service"):
            engine.infer(replace(requests[0], stack=stack.digest))
        with pytest.raises(EngineError, match="out of service"):
            engine.deploy(stack)
        assert engine.infer(requests[0]).text == right[0][1]

        router = another(world, tmp_path / "router9", AdapterCard.read(world.folders["router"]))
        blind = StackSpec(world.stack.base, router, world.stack.experts)
        engine.deploy(blind)
        ruin(engine, router)
        for _ in range(2):
            with pytest.raises(EngineError, match=f"{router.digest} is out of service"):
                engine.route(replace(requests[0], stack=blind.digest))
        assert list(engine.status()["out_of_service"]) == [bad.digest, router.digest]  # type: ignore[call-overload]


def test_what_waits_for_a_withdrawn_router_or_decodes_with_a_withdrawn_expert_ends(world: Any, slow: Request) -> None:
    with running(world, batch=2) as engine:
        slow = replace(slow, max_tokens=3900)
        expert = engine.route(slow).adapter
        assert expert is not None
        under_way = [engine.submit_infer(slow) for _ in range(2)]
        eventually(lambda: engine.status()["running"] == 2)
        engine._pool.withdraw(expert.digest, "it was tried")
        for future in under_way:
            with pytest.raises(EngineError, match=f"{expert.digest} is out of service: it was tried"):
                future.result(20)

        with held(engine):
            waiting = [engine.submit_route(slow) for _ in range(3)]
            engine._pool.withdraw(world.stack.router.digest, "it was tried, too")
        for decision in waiting:
            with pytest.raises(EngineError, match=f"{world.stack.router.digest} is out of service"):
                decision.result(20)
        eventually(lambda: {resident.pins for resident in engine._pool._residents.values()} == {1})


def test_a_broken_request_among_many_lets_go_of_the_others(world: Any) -> None:
    with running(world, batch=2) as engine:
        requests = world.requests(5)
        with pytest.raises(InputError, match="PNG, JPEG or WEBP"):
            engine.infer_many([*requests[:3], replace(requests[3], image=b"")])
        eventually(lambda: {resident.pins for resident in engine._pool._residents.values()} == {1})
        assert [result.text for result in engine.infer_many(requests)] == [engine.infer(r).text for r in requests]


def test_a_failure_among_many_ends_the_others(world: Any, slow: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of the same batch, which would be decoded to their ends for nobody."""
    with running(world, batch=4) as engine:
        request = replace(slow, max_tokens=3900)
        seen: list[Job] = []
        answering = worker.Worker._answering

        def fails(self: worker.Worker, jobs: Sequence[Job]) -> list[Job]:
            if not seen:
                self.fail(jobs[0], EngineError("This one fails."))
            seen.extend(jobs)
            return answering(self, [job for job in jobs if not job.future.done()])

        monkeypatch.setattr(worker.Worker, "_answering", fails)
        with pytest.raises(EngineError, match="This one fails"):
            engine.infer_many([request] * 8)
        assert len(seen) == 4
        assert all(job.future.cancelled() for job in seen[1:])
        eventually(lambda: engine.status()["running"] == engine.status()["waiting"] == 0)


def test_closing_finishes_what_is_under_way_and_refuses_the_rest(world: Any, slow: Request) -> None:
    engine = InProcessEngine.load(world.base, world.store.path, Limits(batch=1))
    engine.deploy(world.stack)
    under_way = engine.submit_infer(slow)
    eventually(lambda: engine.status()["running"])
    waiting = [engine.submit_infer(slow) for _ in range(12)]
    engine.close()
    assert under_way.result().tokens == slow.max_tokens
    for future in waiting:
        with pytest.raises(EngineError, match="closed"):
            future.result(20)
    with pytest.raises(EngineError, match="closed"):
        engine.infer(slow)


def test_a_request_that_comes_while_the_engine_closes_is_refused(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Scheduler.reserve

    with running(world) as engine:

        def closing(self: Scheduler, *arguments: Any) -> None:
            reserve(self, *arguments)
            engine.close()

        monkeypatch.setattr(Scheduler, "reserve", closing)
        with pytest.raises(EngineError, match="closed"):
            engine.infer(world.requests(1)[0])
        assert engine.status()["waiting"] == 0
        assert {resident.pins for resident in engine._pool._residents.values()} == {1}
