"""What lies in one base: adapters come and go by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from adapters.backbone.lora import LANGUAGE_TARGETS
from adapters.card import AdapterCard
from adapters.store import StoredFile, manifest_digest
from datasets_app.errors import InputError
from inference.engines.base import StackNotDeployed
from inference.engines.in_process import InProcessEngine, Limits
from inference.engines.types import AdapterRef, StackSpec
from tests.inference.engines.small import make_adapter, make_model


@pytest.fixture
def small(world: Any) -> Iterator[InProcessEngine]:
    """An engine that holds one stack, and two adapters beyond it at most."""
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
    assert len(small.status()["adapters"]) <= 3  # type: ignore[arg-type]
    assert [small.generate_many(expert, requests) for expert in world.stack.experts] == texts
    names = [name for name, _ in small._runner.model.named_parameters() if "lora_A" in name and ".layers.0." in name]
    assert len(names) == 7 * len(small.status()["adapters"])  # type: ignore[arg-type]


def test_a_refused_adapter_leaves_the_base_as_it_was(world: Any, small: InProcessEngine, tmp_path: Path) -> None:
    """Also where it is the first one that the base ever saw."""
    card = AdapterCard.read(world.folders["bo"])
    broken = make_adapter(lambda: make_model(world.processor), tmp_path / "broken", card)
    whole = world.store.add(broken)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inference.engines.in_process.bank.set_peft_model_state_dict", refuse)
        with pytest.raises(Exception, match="model step failed"):
            small.generate_many(AdapterRef("bo", whole.digest), world.requests(1))
    assert small.status()["adapters"] == []
    expert = world.stack.experts[0]
    alone = InProcessEngine.load(world.base, world.store.path)
    try:
        assert small.generate_many(expert, world.requests(2)) == alone.generate_many(expert, world.requests(2))
    finally:
        alone.close()


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


def test_rank_stabilised_scaling_and_few_modules(world: Any, tmp_path: Path, engine: InProcessEngine) -> None:
    """Configurations other than the trainer's own compute as in plain PEFT."""
    card = AdapterCard.read(world.folders["bo"])
    folder = make_adapter(
        lambda: make_model(world.processor),
        tmp_path / "rs",
        card,
        use_rslora=True,
        lora_alpha=3,
        target_modules=LANGUAGE_TARGETS.replace("mlp", "nothing"),
    )
    ref = AdapterRef("rs", world.store.add(folder).digest)
    engine.generate_many(ref, world.requests(1))
    engine._bank.activate(ref.digest)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        alone = PeftModel.from_pretrained(make_model(world.processor), folder).eval()(input_ids=ids).logits
        assert (engine._runner.model(input_ids=ids).logits - alone).abs().max() == 0.0


def test_a_router_that_cannot_tell_its_labels_apart_is_refused(
    world: Any, tmp_path: Path, engine: InProcessEngine
) -> None:
    card = AdapterCard.read(world.folders["router"]).model_copy(update={"labels": ("am", "<|im_end|>")})
    folder = make_adapter(lambda: make_model(world.processor), tmp_path / "router2", card)
    router = AdapterRef("router", world.store.add(folder).digest)
    experts = (world.stack.experts[0], AdapterRef("<|im_end|>", world.stack.experts[1].digest))
    with pytest.raises(InputError, match="told apart"):
        engine.deploy(StackSpec(world.stack.base, router, experts))
