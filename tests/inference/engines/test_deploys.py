"""Deployments while requests flow."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from adapters.card import AdapterCard
from inference.engines.in_process import InProcessEngine, Limits
from inference.engines.in_process.files import ReadAdapter, read_adapter
from inference.engines.types import AdapterRef, StackedResult, StackSpec, content_digest
from tests.inference.engines.small import make_adapter, make_model
from tests.inference.engines.truth import Truth

CLIENTS, DEPLOYS = 64, 100


def test_no_request_fails_or_gets_another_adapter_while_stacks_change(world: Any, truth: Truth, tmp_path: Path) -> None:
    """Every stack names other versions under the same names; versions are evicted and come back."""
    other = make_adapter(
        lambda: make_model(world.processor), tmp_path / "router9", AdapterCard.read(world.folders["router"])
    )
    folders = {ref.digest: world.folders[ref.name] for ref in (*world.stack.experts, world.stack.router)}
    second = AdapterRef("router", world.store.add(other).digest)
    folders[second.digest] = other
    routers = (world.stack.router, second)
    digests = [expert.digest for expert in world.stack.experts]
    names = [expert.name for expert in world.stack.experts]
    stacks = [
        StackSpec(world.stack.base, routers[number % 2], tuple(map(AdapterRef, names, order)))
        for number, order in enumerate(permutations(digests))
    ]
    by_digest = {stack.digest: stack for stack in stacks}
    requests = world.requests(5)

    engine = InProcessEngine.load(world.base, world.store.path, Limits(stacks=6, adapters=2, batch=16, deadline_s=600))
    engine.deploy(stacks[0])
    cards = [AdapterCard.read(folder) for folder in world.folders.values()]
    templates = {card.human: engine._runner.prompts.template(card) for card in cards if card.kind == "expert"}
    assert len(set(templates.values())) == 2
    live, done = [stacks[0].digest], threading.Event()
    answered: list[tuple[int, StackedResult]] = []
    failures: list[BaseException] = []

    def client(number: int) -> None:
        turn = number
        while not done.is_set():
            index = turn % len(requests)
            turn += 1
            try:
                answered.append((index, engine.infer(replace(requests[index], stack=live[0]))))
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
        assert decision.label == truth.route(folders[stack.router.digest], requests[index])
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
            assert receipt.expert.template == templates[card.human]
            assert decision.adapter in stack.experts
            assert decision.adapter.name == decision.label
            assert result.text == truth.answer(folders[decision.adapter.digest], requests[index])


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
