"""What lies in the slots: adapters come and go by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from adapters.card import AdapterCard
from adapters.store import StoredFile, manifest_digest
from datasets_app.errors import InputError
from datasets_app.formats.pictures import decode
from inference.engines.base import EngineError, StackNotDeployed
from inference.engines.in_process import InProcessEngine, Limits, generate_batch
from inference.engines.in_process.files import ReadAdapter
from inference.engines.in_process.lora import LoraSlots
from inference.engines.in_process.pool import AdapterPool
from inference.engines.types import AdapterRef, StackSpec
from tests.inference.engines.small import make_adapter, make_model


@pytest.fixture
def small(world: Any) -> Iterator[InProcessEngine]:
    """An engine that holds one stack, and two adapters in all unless more are needed."""
    made = InProcessEngine.load(world.base, world.store.path, Limits(stacks=1, adapters=2))
    yield made
    made.close()


def test_old_stacks_and_their_adapters_make_room(world: Any, small: InProcessEngine) -> None:
    request = world.requests(1)[0]
    small.deploy(world.stack)
    expected = small.infer(request)
    other = replace(world.stack, experts=tuple(reversed(world.stack.experts)))
    small.deploy(other)
    with pytest.raises(StackNotDeployed):
        small.infer(request)
    assert small.infer(replace(request, stack=other.digest)).text == expected.text
    small.deploy(world.stack)
    assert small.infer(request).text == expected.text
    assert small.status()["stacks"] == [world.stack.digest]


def test_adapters_that_nobody_needs_are_unloaded(world: Any, small: InProcessEngine) -> None:
    requests = world.requests(1)
    texts = [small.generate_many(expert, requests) for expert in world.stack.experts]
    assert len(small.status()["adapters"]) == 2  # type: ignore[arg-type]
    assert [small.generate_many(expert, requests) for expert in world.stack.experts] == texts


def test_a_failed_load_leaves_the_engine_as_it_was(world: Any, small: InProcessEngine) -> None:
    """Also where it is the first adapter that the base ever saw."""
    expert, requests = world.stack.experts[3], world.requests(2)

    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoraSlots, "write", refuse)
        with pytest.raises(EngineError, match="model step failed: OutOfMemoryError"):
            small.generate_many(expert, requests)
    assert small.status()["adapters"] == []
    images, prompts = [decode(request.image) for request in requests], [request.prompt for request in requests]
    alone = PeftModel.from_pretrained(make_model(world.processor), world.folders[expert.name]).eval()
    card = AdapterCard.read(world.folders[expert.name])
    limit = max(request.max_tokens for request in requests)
    texts = generate_batch(alone, world.processor, card, images, prompts, max_tokens=limit)
    assert small.generate_many(expert, [replace(request, max_tokens=limit) for request in requests]) == texts


def test_wrong_files_are_refused_at_the_load_too(world: Any, tmp_path: Path) -> None:
    """Where `resolve` finds files that never went through the store."""
    card = AdapterCard.read(world.folders["bo"])

    def digest_of(folder: Path) -> str:
        return manifest_digest(
            tuple(
                StoredFile(
                    name, hashlib.sha256((folder / name).read_bytes()).hexdigest(), (folder / name).stat().st_size
                )
                for name in ("adapter_config.json", "adapter_model.safetensors", "switchyard.json")
            )
        )

    other = make_adapter(lambda: make_model(world.processor), tmp_path / "o", card.model_copy(update={"base": "x"}))
    some = make_adapter(
        lambda: make_model(world.processor), tmp_path / "s", card, target_modules=r".*\.layers\.0\.self_attn\.q_proj"
    )
    engine = InProcessEngine.load(world.base, lambda digest: folders[digest])
    folders = {digest_of(folder): folder for folder in (other, some)}
    try:
        for digest, reason in zip(folders, ("another base", "alike"), strict=True):
            with pytest.raises(InputError, match=reason):
                engine.generate_many(AdapterRef("bo", digest), world.requests(1))
    finally:
        engine.close()


def test_a_router_that_cannot_tell_its_labels_apart_is_refused(
    world: Any, tmp_path: Path, engine: InProcessEngine
) -> None:
    card = AdapterCard.read(world.folders["router"]).model_copy(update={"labels": ("am", "<|im_end|>")})
    folder = make_adapter(lambda: make_model(world.processor), tmp_path / "router2", card)
    router = AdapterRef("router", world.store.add(folder).digest)
    experts = (world.stack.experts[0], AdapterRef("<|im_end|>", world.stack.experts[1].digest))
    with pytest.raises(InputError, match="told apart"):
        engine.deploy(StackSpec(world.stack.base, router, experts))


def test_a_pinned_version_is_never_evicted(world: Any) -> None:
    model = make_model(world.processor)
    slots = LoraSlots(model)
    pool = AdapterPool(slots, capacity=2)
    card = AdapterCard.read(world.folders["bo"])

    def place(name: str) -> None:
        weights = {"layers.0.mlp.up_proj": (torch.ones(1, 64), torch.ones(96, 1))}
        pool.place(ReadAdapter(name, card, weights), lambda slot: None)

    for name in "abc":
        place(name)
    assert pool.digests == ["a", "b", "c"]
    pool.unpin(["a", "b"])
    place("b")
    place("d")
    assert set(pool.digests) == {"b", "c", "d"}
    assert len({pool.slot(name) for name in pool.digests}) == 3
    pool.unpin(["b", "c", "d"])
    assert pool.pin("c") == card
    place("e")
    assert set(pool.digests) == {"c", "e"}
    assert pool.pin("a") is None
