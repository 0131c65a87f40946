"""The maths of the in-process engine, against plain transformers and PEFT."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import PeftModel

from adapters.card import AdapterCard
from datasets_app.formats.pictures import decode
from inference.engines.in_process import InProcessEngine, generate_batch, route_scores
from inference.engines.types import Request
from tests.inference.engines.small import make_model


def fresh(world: Any, name: str) -> Any:
    """A base of its own with one adapter, as plain PEFT loads it."""
    return PeftModel.from_pretrained(make_model(world.processor), world.folders[name]).eval()


def plain_inputs(world: Any, card: AdapterCard, request: Request) -> Any:
    """The processor's own inputs, through the chat template as one text."""
    parts = [{"type": "text", "text": part} for part in card.human.replace("{prompt}", request.prompt).split("<image>")]
    content = [part | {"text": part["text"].strip()} for part in parts]
    content.insert(1, {"type": "image"})
    messages = [{"role": "user", "content": content}]
    if card.system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": card.system}]})
    text = world.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    size = {"shortest_edge": card.min_pixels, "longest_edge": card.max_pixels}
    return world.processor(text=[text], images=[decode(request.image)], size=size, return_tensors="pt")


def naive_scores(world: Any, model: Any, card: AdapterCard, request: Request) -> dict[str, float]:
    """One full forward pass per name; the end token counts where another name goes on."""
    inputs, scores = plain_inputs(world, card, request), []
    names = [world.processor.tokenizer(label).input_ids for label in card.labels]
    for ids in names:
        continued = any(other[: len(ids)] == ids for other in names if other != ids)
        name = ids + [world.processor.tokenizer.eos_token_id] * continued
        tail = torch.tensor([name])
        whole = dict(inputs) | {
            "input_ids": torch.cat([inputs["input_ids"], tail], 1),
            "attention_mask": torch.ones(1, inputs["input_ids"].shape[1] + len(name), dtype=torch.long),
            "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tail)], 1),
        }
        with torch.no_grad():
            logits = model(**whole).logits[0, -len(name) - 1 : -1].log_softmax(-1)
        scores.append(logits[range(len(name)), name].sum())
    return dict(zip(card.labels, torch.stack(scores).softmax(0).tolist(), strict=True))


def cards(world: Any) -> dict[str, AdapterCard]:
    return {name: AdapterCard.read(folder) for name, folder in world.folders.items()}


def test_packed_names_score_as_one_forward_per_name(world: Any, engine: InProcessEngine) -> None:
    router, card = fresh(world, "router"), cards(world)["router"]
    for request, decision in zip(world.requests(6), map(engine.route, world.requests(6)), strict=True):
        assert decision.probabilities == pytest.approx(naive_scores(world, router, card, request), abs=1e-4)
        assert sum(decision.probabilities.values()) == pytest.approx(1)
        assert decision.label == max(decision.probabilities, key=decision.probabilities.__getitem__)


def test_answers_equal_plain_generate(world: Any, engine: InProcessEngine) -> None:
    """With the vision tower run once for router and expert, and with the expert's own pixel budget."""
    results = engine.infer_many(world.requests(8))
    assert len({result.decision.label for result in results}) > 1
    for request, result in zip(world.requests(8), results, strict=True):
        name = result.decision.label
        inputs = plain_inputs(world, cards(world)[name], request)
        out = fresh(world, name).generate(**inputs, max_new_tokens=request.max_tokens, do_sample=False)
        ids = out[0, inputs["input_ids"].shape[1] :]
        ids = ids[ids != world.processor.tokenizer.eos_token_id]
        assert result.text == world.processor.tokenizer.decode(ids)
        assert result.tokens == len(ids)
        assert result.finish_reason == ("length" if len(ids) == request.max_tokens else "stop")


def test_the_vision_tower_runs_once_per_pixel_budget(
    world: Any, engine: InProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    core = engine._runner.model.model
    features = core.get_image_features
    monkeypatch.setattr(core, "get_image_features", lambda *a, **k: calls.append(1) or features(*a, **k))
    for request in world.requests(8):
        calls.clear()
        label = engine.infer(request).decision.label
        assert len(calls) == (2 if label == "an" else 1)


def test_many_equal_single_ones(world: Any, engine: InProcessEngine) -> None:
    requests = world.requests(11)
    for request, many in zip(requests, engine.infer_many(requests), strict=True):
        one, route = engine.infer(request), engine.route(request)
        assert (many.text, many.tokens, many.finish_reason) == (one.text, one.tokens, one.finish_reason)
        assert route.label == many.decision.label == one.decision.label
        assert many.decision.probabilities == pytest.approx(one.decision.probabilities, abs=1e-4)


def test_router_and_expert_alone(world: Any, engine: InProcessEngine) -> None:
    requests = world.requests(5)
    scores = engine.route_scores_many(world.stack.router, requests)
    images, prompts = [decode(r.image) for r in requests], [r.prompt for r in requests]
    router = fresh(world, "router").train()
    same = route_scores(router, world.processor, cards(world)["router"], images, prompts, batch_size=2)
    assert router.training
    for row, other, decision in zip(scores, same, map(engine.route, requests), strict=True):
        assert row == pytest.approx(decision.probabilities, abs=1e-4)
        assert row == pytest.approx(other, abs=1e-4)

    expert = world.stack.experts[3]
    limited = [Request("", r.image, r.prompt, 6) for r in requests]
    texts = engine.generate_many(expert, limited)
    card = cards(world)[expert.name]
    assert texts == generate_batch(fresh(world, expert.name), world.processor, card, images, prompts, max_tokens=6)
    assert engine.infer_many([]) == []


def test_threads_give_the_answers_of_one_after_the_other(world: Any, engine: InProcessEngine) -> None:
    requests = world.requests(8) * 2
    expected = [(r.text, r.decision.label) for r in map(engine.infer, requests)]
    with ThreadPoolExecutor(4) as threads:
        got = [(r.text, r.decision.label) for r in threads.map(engine.infer, requests)]
    assert got == expected


def test_the_models_thread_preprocesses_no_screenshot(
    world: Any, engine: InProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though every expert sees it in another pixel budget than the router."""
    other = world.stack.experts[2].digest
    stack = replace(world.stack, experts=tuple(replace(expert, digest=other) for expert in world.stack.experts))
    engine.deploy(stack)
    pixels, threads = engine._runner.prompts.pixels, []

    def watched(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return pixels(*arguments)

    monkeypatch.setattr(engine._runner.prompts, "pixels", watched)
    results = [engine.infer(replace(request, stack=stack.digest)) for request in world.requests(6)]
    assert any(result.decision.adapter for result in results)
    assert threads
    assert "model-owner" not in threads


def test_timings_add_up(world: Any, engine: InProcessEngine) -> None:
    timings = engine.infer(world.requests(1)[0]).timings
    parts = ("preprocess", "queue", "vision", "route", "prefill", "decode")
    assert timings["total"] == pytest.approx(sum(timings[part] for part in parts))
    assert timings["generate"] == pytest.approx(timings["prefill"] + timings["decode"])


def test_of_the_sets_of_labels_only_some_are_kept(world: Any, engine: InProcessEngine) -> None:
    made = [engine._runner.trie((f"label-{number}", "none")) for number in range(100)]
    assert engine._runner.trie(("label-99", "none")) is made[-1]
    again = engine._runner.trie(("label-0", "none"))
    assert again == made[0]
    assert again is not made[0]
