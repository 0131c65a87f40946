"""What every engine promises, run against the one in this process and the one in another, in both its protocols."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from adapters.card import AdapterCard
from datasets_app.errors import InputError
from datasets_app.formats.pictures import UnsupportedImage
from inference.engines.base import Engine, StackNotDeployed
from inference.engines.types import AdapterRef, StackSpec
from inference.routing.scoring import best
from tests.inference.engines.small import make_adapter, make_image, make_model


def test_decides_and_answers(world: Any, any_engine: Engine) -> None:
    for request in world.requests(4):
        decision, result = any_engine.route(request), any_engine.infer(request)
        assert list(decision.probabilities) == ["am", "amx", "an", "bo", "none"]
        assert sum(decision.probabilities.values()) == pytest.approx(1)
        assert decision.label == result.decision.label == best(decision.probabilities)
        assert decision.adapter is None or decision.adapter.name == decision.label
        assert decision.router == world.stack.router
        assert 0 <= result.tokens <= request.max_tokens
        assert result.finish_reason in ("stop", "length", "none")


@pytest.mark.parametrize("other", ["remote", "http"])
def test_engines_agree(world: Any, engine: Engine, other: str, request: pytest.FixtureRequest) -> None:
    elsewhere: Engine = request.getfixturevalue(other)
    elsewhere.deploy(world.stack)
    for asked in world.requests(12):
        here, there = engine.infer(asked), elsewhere.infer(asked)
        assert (here.text, here.tokens, here.tool_call) == (there.text, there.tokens, there.tool_call)
        assert here.finish_reason == there.finish_reason
        assert here.decision.probabilities == pytest.approx(there.decision.probabilities, abs=2e-4)
        assert (here.decision.label, here.decision.adapter) == (there.decision.label, there.decision.adapter)


def test_threads_are_served(world: Any, any_engine: Engine) -> None:
    requests = world.requests(6)
    expected = [any_engine.infer(request).text for request in requests]
    with ThreadPoolExecutor(6) as threads:
        assert [result.text for result in threads.map(any_engine.infer, requests)] == expected


def test_deploying_again_changes_nothing(world: Any, any_engine: Engine) -> None:
    before = any_engine.status()
    any_engine.deploy(world.stack)
    after = any_engine.status()
    assert after["stacks"] == before["stacks"]
    assert sorted(after["adapters"]) == sorted(before["adapters"])  # type: ignore[call-overload]
    assert after["base"] == world.stack.base


def test_a_large_screenshot_is_looked_at(world: Any, any_engine: Engine) -> None:
    """2 MB of noise: more than a message of Modal's takes."""
    request = replace(world.requests(1)[0], image=make_image(1, 1000, 700))
    assert len(request.image) > 2 * 10**6
    assert any_engine.route(request).router == world.stack.router


def test_an_unknown_stack_is_told_apart(world: Any, any_engine: Engine) -> None:
    request = replace(world.requests(1)[0], stack="sha256:" + "0" * 64)
    for ask in (any_engine.route, any_engine.infer):
        with pytest.raises(StackNotDeployed, match="deploy it first"):
            ask(request)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": b"GIF89a" + bytes(40)}, "PNG, JPEG or WEBP"),
        ({"image": b""}, "PNG, JPEG or WEBP"),
        ({"image": make_image(0)[:300]}, "truncated"),
        ({"image": make_image(0, 1, 500)}, "sides may differ"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"prompt": "x" * 100_000}, "characters"),
        ({"prompt": "\ud800"}, "surrogate|hex escape"),
    ],
)
def test_wrong_requests_are_refused(world: Any, any_engine: Engine, change: dict[str, Any], reason: str) -> None:
    request = world.requests(1)[0]
    expected = any_engine.infer(request).text
    with pytest.raises(InputError, match=reason) as refused:
        any_engine.infer(replace(request, **change))
    assert isinstance(refused.value, UnsupportedImage) == ("JPEG" in reason)
    assert any_engine.infer(request).text == expected


def test_stacks_that_do_not_go_together_are_refused(world: Any, any_engine: Engine) -> None:
    stack = world.stack
    wrong = {
        "base": replace(stack, base="sha256:" + "1" * 64),
        "is no router": replace(stack, router=stack.experts[0]),
        "is no expert": replace(stack, experts=(*stack.experts, AdapterRef("r", stack.router.digest))),
        "names of their own": replace(stack, experts=(*stack.experts, stack.experts[0])),
        "no expert of the stack": replace(stack, experts=stack.experts[:2]),
        "does not hold": replace(stack, router=AdapterRef("router", "sha256:" + "2" * 64)),
        "64 hex digits": replace(stack, router=AdapterRef("router", "../../etc")),
    }
    for reason, broken in wrong.items():
        with pytest.raises(InputError, match=reason):
            any_engine.deploy(broken)
        assert broken.digest not in any_engine.status()["stacks"]  # type: ignore[operator]


def test_a_no_op_is_refused_and_the_old_stack_serves_on(world: Any, any_engine: Engine, tmp_path: Path) -> None:
    request = world.requests(1)[0]
    expected, before = any_engine.infer(request).text, any_engine.status()
    folder = shutil.copytree(world.folders["bo"], tmp_path / "bo")
    weights = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    faint = {name: tensor * 1e-9 if "lora_B" in name else tensor for name, tensor in weights.items()}
    safetensors.torch.save_file(faint, folder / "adapter_model.safetensors")
    experts = (*world.stack.experts[:3], AdapterRef("bo", world.store.add(folder).digest))
    with pytest.raises(InputError, match="Adapter 'bo': The adapter is a no-op: it changes nothing"):
        any_engine.deploy(replace(world.stack, experts=experts))
    after = any_engine.status()
    assert after["stacks"] == before["stacks"]
    assert sorted(after["adapters"]) == sorted(before["adapters"])  # type: ignore[call-overload]
    assert any_engine.infer(request).text == expected


def test_a_swapped_file_is_refused(world: Any, any_engine: Engine, tmp_path: Any) -> None:
    card = AdapterCard.read(world.folders["bo"])
    folder = make_adapter(lambda: make_model(world.processor), tmp_path / f"swapped-{type(any_engine)}", card)
    stored = world.store.add(folder)
    weights = stored.path / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(data)
    experts = (*world.stack.experts, AdapterRef("swapped", stored.digest))
    with pytest.raises(InputError, match="changed since"):
        any_engine.deploy(StackSpec(world.stack.base, world.stack.router, experts))
