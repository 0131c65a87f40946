"""Deployments while requests flow."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, cycle, permutations
from pathlib import Path
from typing import Any

import pytest

from adapters.card import AdapterCard
from inference.engines.in_process import InProcessEngine, Limits
from inference.engines.in_process.files import ReadAdapter, read_adapter
from inference.engines.types import AdapterRef, Request, StackedResult, StackSpec, TextDelta, content_digest
from tests.inference.engines.activated import Activated
from tests.inference.engines.small import make_adapter, make_model
from tests.inference.engines.truth import Truth

CLIENTS, DEPLOYS = 64, 100


def many_stacks(world: Any, cast: Activated, second: AdapterRef) -> list[StackSpec]:
    """Every order of plain and of activated experts under the same names, with each router in turn."""
    names = [expert.name for expert in world.stack.experts]
    plain, activated = [ref.digest for ref in world.stack.experts], [cast.refs[name].digest for name in names]
    routers = cycle((world.stack.router, cast.refs["router"], second, cast.refs["plain-router"], cast.refs["router"]))
    orders = chain.from_iterable(zip(permutations(plain), permutations(activated), strict=True))
    return [
        StackSpec(world.stack.base, router, tuple(map(AdapterRef, names, order)))
        for router, order in zip(routers, orders, strict=False)
    ]


def ask(engine: InProcessEngine, request: Request, is_streamed: bool) -> StackedResult:
    """The result, whose text is that of the stream's pieces."""
    if not is_streamed:
        return engine.infer(request)
    decision, *deltas, result = engine.stream(request)
    assert isinstance(result, StackedResult) and decision == result.decision
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == result.text
    return result


def test_no_request_fails_or_gets_another_adapter_while_stacks_change(
    world: Any, cast: Activated, truth: Truth, tmp_path: Path
) -> None:
    """Every stack names other versions under the same names, plain or activated; versions are evicted and come back."""
    other = make_adapter(
        lambda: make_model(world.processor), tmp_path / "router9", AdapterCard.read(world.folders["router"])
    )
    second = AdapterRef("router", world.store.add(other).digest)
    folders = world.by_digest | cast.by_digest | {second.digest: other}
    stacks = many_stacks(world, cast, second)
    by_digest = {stack.digest: stack for stack in stacks}
    requests = world.requests(5)

    engine = InProcessEngine.load(world.base, world.store.path, Limits(stacks=6, adapters=2, batch=16, deadline_s=600))
    engine.deploy(stacks[0])
    templates = {
        digest: engine._runner.prompts.template(AdapterCard.read(folder)) for digest, folder in folders.items()
    }
    assert len(set(templates.values())) > 3
    live, done = [stacks[0].digest], threading.Event()
    answered: list[tuple[int, StackedResult]] = []
    failures: list[BaseException] = []

    def client(number: int) -> None:
        turn = number
        while not done.is_set():
            index = turn % len(requests)
            turn += 1
            try:
                answered.append((index, ask(engine, replace(requests[index], stack=live[0]), number % 2 == 0)))
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, DEPLOYS + 1):
            before, stack = len(answered), stacks[number % len(stacks)]
            engine.deploy(stack)
            live[0] = stack.digest
            while len(answered) < before + 2 and not failures:
                done.wait(0.001)
    finally:
        done.set()
        for thread in threads:
            thread.join()
        engine.close()

    assert failures == []
    assert len({result.decision.stack for _, result in answered}) > len(stacks) // 2
    for index, result in answered:
        stack, decision = by_digest[result.decision.stack], result.decision
        assert decision.router == stack.router
        assert (decision.label, result.text) == truth.stacked(stack, requests[index], folders)
        assert result.receipt is not None
        receipt = result.receipt
        assert receipt.router is not None
        assert (receipt.stack, receipt.router.digest) == (stack.digest, stack.router.digest)
        assert receipt.image == content_digest(requests[index].image)
        assert receipt.prompt == requests[index].prompt
        assert receipt.answer == content_digest(result.text.encode())
        assert (receipt.label, receipt.expert is None) == (decision.label, decision.adapter is None)
        if decision.adapter is not None:
            assert receipt.expert is not None
            card = AdapterCard.read(folders[decision.adapter.digest])
            assert receipt.expert.digest == decision.adapter.digest
            assert (receipt.expert.min_pixels, receipt.expert.max_pixels) == (card.min_pixels, card.max_pixels)
            assert receipt.expert.template == templates[decision.adapter.digest]
            assert decision.adapter in stack.experts
            assert decision.adapter.name == decision.label


def test_who_deploys_the_same_stack_at_once_reads_each_adapter_once(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(folder: Path, digest: str, *rest: Any) -> ReadAdapter:
        read.append(digest)
        return read_adapter(folder, digest, *rest)

    monkeypatch.setattr("inference.engines.in_process.engine.read_adapter", counted)
    together = threading.Barrier(4)
    engine = InProcessEngine.load(world.base, world.store.path)

    def deploy(_: int) -> None:
        together.wait(10)
        engine.deploy(world.stack)

    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(deploy, range(4)))
        assert engine.route(world.requests(1)[0]).stack == world.stack.digest
    finally:
        engine.close()
    assert sorted(read) == sorted(ref.digest for ref in (world.stack.router, *world.stack.experts))
