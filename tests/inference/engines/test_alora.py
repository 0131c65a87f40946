"""Activated LoRA: router and experts continue what the base alone has read once, as PEFT computes it for each alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from adapters.base_shape import BaseShape
from adapters.card import AdapterCard, share_prefix
from datasets_app.errors import InputError
from datasets_app.formats.pictures import decode
from inference.engines.base import EngineError
from inference.engines.http import HttpEngine
from inference.engines.in_process import InProcessEngine, Limits, generate_batch, prefixes, route_scores, worker
from inference.engines.in_process.batch import Batch, look
from inference.engines.in_process.files import read_adapter
from inference.engines.in_process.lora import LoraSlots
from inference.engines.in_process.passes import prefill
from inference.engines.in_process.prefixes import Continuation, Prefix, invoked_at, join, read
from inference.engines.in_process.runner import Runner
from inference.engines.types import AdapterRef, Decision, Request, StackedResult, StackSpec, TextDelta
from tests.inference.engines.activated import PLAIN, WORDED, Activated
from tests.inference.engines.conftest import TOKEN
from tests.inference.engines.served import served
from tests.inference.engines.small import EXPERTS, make_adapter, make_model
from tests.inference.engines.truth import Truth


@pytest.fixture(scope="module")
def engine(world: Any, cast: Activated) -> Iterator[InProcessEngine]:
    """With stacks of either router."""
    made = InProcessEngine.load(world.base, world.store.path)
    for stack in cast.stacks:
        made.deploy(stack)
    yield made
    made.close()


def ask(world: Any, cast: Activated, count: int) -> list[tuple[StackSpec, Request]]:
    """Requests for the stacks in turn."""
    turns = zip(world.requests(count), cycle(cast.stacks))
    return [(s, replace(r, stack=s.digest, max_tokens=3 + i % 7)) for i, (r, s) in enumerate(turns)]


def read_card(cast: Activated, name: str) -> dict[str, Any]:
    return AdapterCard.read(cast.folders[name]).model_dump(mode="json")


def said(result: StackedResult) -> tuple[str, str]:
    return result.decision.label, result.text


def test_alone_and_streamed_it_equals_peft(world: Any, cast: Activated, truth: Truth, engine: InProcessEngine) -> None:
    chosen = set()
    for stack, request in ask(world, cast, 12):
        decision, *deltas, result = engine.stream(request)
        assert isinstance(decision, Decision) and isinstance(result, StackedResult)
        assert decision.probabilities == pytest.approx(truth.scores(cast.folders[stack.router.name], request), abs=1e-5)
        assert said(result) == truth.stacked(stack, request, cast.by_digest)
        assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == result.text
        assert said(engine.infer(request)) == said(result)
        chosen.add((stack.router.name, decision.adapter and decision.adapter.digest))
    assert len(chosen) > 4, "either router, and experts of all kinds"


@torch.no_grad()
def test_what_follows_a_prefix_has_peft_s_logits(world: Any, cast: Activated, truth: Truth) -> None:
    """Prefixes of different lengths side by side, behind which different adapters go on."""
    runner = Runner(make_model(world.processor), world.processor)
    slots, shape = LoraSlots(runner.model), BaseShape.of(runner.model.config.get_text_config().to_dict())
    names, requests = ["am", WORDED, "router"], world.requests(3)
    prompts, views, cards = [], [], []
    for slot, (name, request) in enumerate(zip(names, requests, strict=True), 1):
        digest = cast.refs[name].digest
        adapter = read_adapter(world.store.path(digest), digest, cast.base, shape, runner.model.dtype)
        slots.write(slot, adapter.weights)
        views += runner.look([decode(request.image)], adapter.card)
        prompts.append(runner.ids(adapter.card, request.prompt, views[-1]))
        cards.append(adapter.card)
    heads = [prompt[: invoked_at(card, prompt)] for card, prompt in zip(cards, prompts, strict=True)]
    assert len(set(map(len, heads))) == 3
    begun = read(runner, slots, heads, views)
    with slots.use(slots.rows([1, 2, 3])):
        logits = prefill(runner.model, join([*map(Continuation, cards, prompts, begun)], runner.model.device)).logits
    for name, request, row in zip(names, requests, logits, strict=True):
        alone, inputs = truth.model(cast.folders[name]), truth.inputs(cast.folders[name], request)
        right = alone(**inputs).logits[0, -1]
        assert (row - right).abs().max() < 1e-5 * right.abs().max()
        without = alone.get_base_model()(**inputs).logits[0, -1]
        assert (row - without).abs().max() > 0.1, "the adapter changes something"


def test_company_changes_nobody_s_tokens(world: Any, cast: Activated, truth: Truth, engine: InProcessEngine) -> None:
    """Together, joining late, and beside plain stacks and experts that are asked alone."""
    asked = ask(world, cast, 12)
    right = [truth.stacked(stack, request, cast.by_digest) for stack, request in asked]
    experts = [(name, replace(request, max_tokens=5)) for name, (_, request) in zip(EXPERTS, asked, strict=False)]
    assert [said(result) for result in engine.infer_many([request for _, request in asked])] == right
    with ThreadPoolExecutor(8) as threads:
        late = [threads.submit(engine.infer, request) for _, request in asked]
        alone = [threads.submit(engine.generate_many, cast.refs[name], [request]) for name, request in experts]
        assert [said(future.result()) for future in late] == right
        assert [future.result() for future in alone] == [
            [truth.answer(cast.folders[name], one)] for name, one in experts
        ]


def test_as_models_of_the_openai_protocol_they_answer_the_same(world: Any, cast: Activated, truth: Truth) -> None:
    with served(InProcessEngine.load(world.base, world.store.path), TOKEN) as url:
        http = HttpEngine(url, TOKEN, str(world.store.root))
        for stack, request in ask(world, cast, 8):
            http.deploy(stack)
            assert said(http.infer(request)) == truth.stacked(stack, request, cast.by_digest)
        http.close()


def test_a_server_that_knows_no_activation_is_given_none(world: Any, cast: Activated) -> None:
    """vLLM's listing: it would apply the weights to the whole prompt and say nothing."""
    listing = {"data": [{"id": world.stack.base, "owned_by": "vllm", "parent": None}]}
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json=listing))
    http = HttpEngine("http://vllm", TOKEN, str(world.store.root))
    http._server._client = httpx.Client(transport=answer, base_url="http://vllm")
    for stack in cast.stacks:
        with pytest.raises(InputError, match="is an activated LoRA"):
            http.deploy(stack)
    with pytest.raises(EngineError, match="something else"):  # A plain one is loaded, and asked its canaries.
        http.deploy(world.stack)


def test_deploys_in_between_change_no_tokens(world: Any, cast: Activated, truth: Truth) -> None:
    engine = InProcessEngine.load(world.base, world.store.path, Limits(stacks=2, adapters=1))
    asked = ask(world, cast, 12)
    try:
        waiting = []
        for stack, request in asked:
            engine.deploy(stack)
            waiting.append(engine.submit_infer(request))
        assert [said(future.result()) for future in waiting] == [truth.stacked(*one, cast.by_digest) for one in asked]
    finally:
        engine.close()


def test_the_base_reads_a_shared_prefix_once(
    world: Any, cast: Activated, engine: InProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[bool, int]] = []  # whether it continues a prefix, and how many tokens are read

    def note(model: Any, batch: Batch) -> Any:
        passes.append((batch.past is not None, batch.ids.shape[1]))
        return prefill(model, batch)

    for module in (worker, prefixes):
        monkeypatch.setattr(module, "prefill", note)
    opening = len(engine._runner.prompts.opening)
    cards = {ref.digest: read_card(cast, name) for name, ref in cast.refs.items()}
    seen = set()
    for stack, request in ask(world, cast, 12):
        passes.clear()
        decision = engine.infer(request).decision
        if decision.adapter is not None:
            router, expert = cards[stack.router.digest], cards[decision.adapter.digest]
            is_shared = share_prefix(router, expert)
            alone = bool(router["invocation"]) + (bool(expert["invocation"]) and not is_shared)
            assert len(passes) == alone + 1
            assert [tokens for behind, tokens in passes if behind] == ([opening] if expert["invocation"] else [])
            seen.add((bool(router["invocation"]), bool(expert["invocation"]), is_shared))
    assert {(True, True, True), (True, False, False), (False, True, False)} <= seen


def test_too_little_memory_halves_the_batch_and_goes_on(world: Any, cast: Activated, truth: Truth) -> None:
    asked = [(stack, replace(request, max_tokens=9)) for stack, request in ask(world, cast, 8)]
    step = worker.step

    def scarce_prefill(model: Any, batch: Batch) -> Any:
        if len(batch.ids) > 2:
            raise torch.OutOfMemoryError
        return prefill(model, batch)

    def scarce_step(model: Any, tokens: Any, positions: Any, kept: Any) -> Any:
        if len(tokens) > 2:
            raise torch.OutOfMemoryError
        return step(model, tokens, positions, kept)

    engine = InProcessEngine.load(world.base, world.store.path, Limits(batch=4))
    try:
        for stack in cast.stacks:
            engine.deploy(stack)
        with pytest.MonkeyPatch.context() as patch:
            for module in (worker, prefixes):
                patch.setattr(module, "prefill", scarce_prefill)
            patch.setattr(worker, "step", scarce_step)
            results = engine.infer_many([request for _, request in asked])
        assert engine.status()["batch"] in (1, 2)
    finally:
        engine.close()
    assert [said(result) for result in results] == [truth.stacked(*one, cast.by_digest) for one in asked]


def test_a_plain_lora_cannot_continue_a_prefix(world: Any, cast: Activated, engine: InProcessEngine) -> None:
    runner, request = engine._runner, world.requests(1)[0]
    card = AdapterCard.read(cast.folders["am"])
    view = look(runner.model, [runner.prompts.pixels(decode(request.image), card.min_pixels, card.max_pixels)])[0]
    prompt = runner.ids(card, request.prompt, view)
    prefix = Prefix(prompt[: invoked_at(card, prompt)], view, [], [], 0)
    assert tuple(Continuation(card, prompt, prefix).rest) == card.invocation
    with pytest.raises(EngineError, match="plain LoRA must read its whole prompt itself"):
        Continuation(AdapterCard.read(cast.folders[PLAIN]), prompt, prefix)
    with pytest.raises(EngineError, match="does not begin with the prefix"):
        Continuation(card, [*prompt[:5], *prompt[6:]], prefix)
    with pytest.raises(EngineError, match="does not end with the adapter's invocation"):
        Continuation(card, prompt[:-1], prefix)


def test_a_plain_lora_taken_for_an_activated_one_fails_and_is_not_answered_wrongly(
    world: Any, cast: Activated, engine: InProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(world.requests(1)[0], max_tokens=3)
    plain, continuation = AdapterCard.read(cast.folders[PLAIN]), worker.Continuation
    monkeypatch.setattr(worker, "Continuation", lambda card, prompt, prefix: continuation(plain, prompt, prefix))
    with pytest.raises(EngineError, match="model step failed: EngineError"):
        engine.generate_many(cast.refs["am"], [request])
    monkeypatch.undo()
    assert engine.generate_many(cast.refs["am"], [request])


def test_cards_tell_who_shares(cast: Activated) -> None:
    router, plain = read_card(cast, "router"), read_card(cast, "plain-router")
    assert {name for name in EXPERTS if share_prefix(router, read_card(cast, name))} == {*EXPERTS} - {PLAIN, WORDED}
    assert not any(share_prefix(plain, read_card(cast, name)) for name in cast.folders)


def test_a_peft_model_is_scored_and_answers_as_peft_itself(world: Any, cast: Activated, truth: Truth) -> None:
    """What training measures itself by: the base called directly, with the adapter at work from its invocation on."""
    requests = [replace(request, max_tokens=6) for request in world.requests(4)]
    images, words = [decode(request.image) for request in requests], [request.prompt for request in requests]
    router, expert = truth.model(cast.folders["router"]), truth.model(cast.folders["am"])
    scores = route_scores(router, world.processor, AdapterCard.read(cast.folders["router"]), images, words, 3)
    for row, request in zip(scores, requests, strict=True):
        assert row == pytest.approx(truth.scores(cast.folders["router"], request), abs=1e-5)
    assert not any(module._forward_pre_hooks for module in router.modules())
    texts = generate_batch(expert, world.processor, AdapterCard.read(cast.folders["am"]), images, words, 6, 3)
    assert texts == [truth.answer(cast.folders["am"], request) for request in requests]


def test_an_adapter_with_another_invocation_is_refused(
    world: Any, cast: Activated, engine: InProcessEngine, tmp_path: Path
) -> None:
    card = AdapterCard.read(cast.folders["am"]).model_copy(update={"invocation": (5, 6)})
    tokens = {"alora_invocation_tokens": [5, 6], "task_type": "CAUSAL_LM"}
    folder = make_adapter(lambda: make_model(world.processor), tmp_path / "other", card, **tokens)
    other = AdapterRef("other", world.store.add(folder).digest)
    with pytest.raises(InputError, match=r"invoked by tokens \[5, 6\]; on this base .* begin the answer"):
        engine.generate_many(other, world.requests(1))
