"""Receipts: what an answer was given with, and asking for it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from adapters.card import AdapterCard
from adapters.models import Adapter, AdapterVersion, BaseModel, Stack
from datasets_app.errors import InputError
from inference import replaying
from inference.engines import wire
from inference.engines.base import Engine
from inference.engines.in_process import InProcessEngine, Limits
from inference.engines.types import Receipt, StackSpec, content_digest
from inference.replaying import replay


@pytest.fixture
def small(world: Any, db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcessEngine]:
    """An engine that holds one stack at a time, behind `replay`; the stack and its reverse are recorded."""
    base = BaseModel.objects.create(name="small", path=world.base.path, fingerprint=world.stack.base)
    versions = {}
    for ref in (world.stack.router, *world.stack.experts):
        kind = Adapter.Kind.ROUTER if ref.name == "router" else Adapter.Kind.EXPERT
        adapter = Adapter.objects.create(name=ref.name, kind=kind, base=base)
        versions[ref.name] = AdapterVersion.objects.create(
            adapter=adapter, number=1, digest=ref.digest, size=1, card={}, facts={}
        )
    stack = Stack.objects.create(digest=world.stack.digest, router=versions["router"])
    stack.experts.set([versions[ref.name] for ref in world.stack.experts])
    made = InProcessEngine.load(world.base, world.store.path, Limits(stacks=1))
    monkeypatch.setattr(replaying, "get_engine", lambda: made)
    yield made
    made.close()


def other(world: Any) -> StackSpec:
    """Each name means another expert."""
    names, digests = zip(*((ref.name, ref.digest) for ref in world.stack.experts), strict=True)
    turned = (digests[-1], *digests[:-1])
    experts = tuple(replace(ref, digest=digest) for ref, digest in zip(world.stack.experts, turned, strict=True))
    assert [ref.name for ref in experts] == list(names)
    return replace(world.stack, experts=experts)


@pytest.fixture(params=["engine", "remote"])
def writer(request: pytest.FixtureRequest, world: Any) -> Engine:
    """An engine that writes receipts, here or in another process."""
    found: Engine = request.getfixturevalue(request.param)
    found.deploy(world.stack)
    return found


def test_every_engine_writes_what_it_answered_with(world: Any, writer: Engine, engine: InProcessEngine) -> None:
    request = world.requests(2)[1]
    result, decision = writer.infer(request), writer.route(request)
    receipt = result.receipt
    assert receipt is not None
    assert receipt.router is not None
    card = AdapterCard.read(world.folders["router"])
    assert (receipt.stack, receipt.base) == (world.stack.digest, world.stack.base)
    assert (receipt.dtype, receipt.device) == ("float32", "cpu")
    assert (receipt.router.name, receipt.router.digest) == ("router", world.stack.router.digest)
    assert receipt.router.template == engine._runner.prompts.template(card)
    assert (receipt.router.min_pixels, receipt.router.max_pixels) == (card.min_pixels, card.max_pixels)
    assert receipt.labels == card.labels
    assert receipt.label == result.decision.label
    assert receipt.expert is not None
    assert result.decision.adapter is not None
    assert receipt.expert.digest == result.decision.adapter.digest
    assert receipt.expert.template != receipt.router.template
    assert not receipt.router.proven
    assert (receipt.prompt, receipt.max_tokens) == (request.prompt, request.max_tokens)
    assert receipt.image == content_digest(request.image)
    assert receipt.answer == content_digest(result.text.encode())
    assert set(receipt.packages) == {"switchyard", "torch", "transformers", "peft", "tokenizers", "pillow"}
    assert decision.receipt == result.decision.receipt == replace(receipt, answer=None)


def test_of_an_openai_server_it_says_what_is_known(world: Any, http: Engine) -> None:
    http.deploy(world.stack)
    request = world.requests(2)[1]
    result, decision = http.infer(request), http.route(request)
    receipt = result.receipt
    assert receipt is not None
    assert receipt.router is not None
    assert (receipt.stack, receipt.base) == (world.stack.digest, world.stack.base)
    assert receipt.router.digest == world.stack.router.digest
    assert receipt.expert is not None
    assert result.decision.adapter is not None
    assert receipt.expert.digest == result.decision.adapter.digest
    assert (receipt.dtype, receipt.device, receipt.router.proven) == ("unknown", "unknown", False)
    assert (receipt.image, receipt.prompt) == (content_digest(request.image), request.prompt)
    assert receipt.answer == content_digest(result.text.encode())
    assert decision.receipt == replace(receipt, answer=None)


def test_the_last_event_of_a_stream_carries_it(world: Any, writer: Engine) -> None:
    request = world.requests(1)[0]
    *_, result = writer.stream(request)
    assert result.receipt == writer.infer(request).receipt  # type: ignore[union-attr]


def test_a_request_is_replayed_though_another_stack_serves(world: Any, small: InProcessEngine) -> None:
    small.deploy(world.stack)
    request = next(request for request in world.requests(9) if small.route(request).adapter is not None)
    result, decision = small.infer(request), small.route(request)
    serving = other(world)
    small.deploy(serving)
    assert small.infer(replace(request, stack=serving.digest)).text != result.text
    assert small.status()["stacks"] == [serving.digest]
    assert result.receipt is not None
    assert decision.receipt is not None
    again = replay(result.receipt, request.image)
    assert (again.label, again.text, again.same, again.differences) == (result.decision.label, result.text, True, ())
    assert replay(decision.receipt, request.image).same


@pytest.fixture
def asked(world: Any, small: InProcessEngine) -> tuple[Receipt, bytes]:
    """A receipt and its image."""
    small.deploy(world.stack)
    request = world.requests(1)[0]
    receipt = small.infer(request).receipt
    assert receipt is not None
    return receipt, request.image


def test_what_differs_is_told(asked: tuple[Receipt, bytes]) -> None:
    receipt, image = asked
    assert receipt.router is not None
    packages = receipt.packages | {"torch": "1.0"}
    old = replace(receipt, packages=packages, router=replace(receipt.router, template="sha256:0"))
    again = replay(old, image)
    assert again.same
    assert again.differences == (
        f"packages.torch was 1.0, is {receipt.packages['torch']}",
        f"router.template was sha256:0, is {receipt.router.template}",
    )
    assert not replay(replace(receipt, answer=content_digest(b"other words")), image).same
    assert not replay(replace(receipt, label="nobody"), image).same


def test_what_cannot_be_replayed_is_refused(world: Any, asked: tuple[Receipt, bytes]) -> None:
    receipt, image = asked
    with pytest.raises(InputError, match="not the one that the receipt is for"):
        replay(receipt, image + b"\0")
    with pytest.raises(InputError, match="asked by itself, without a stack"):
        replay(replace(receipt, router=None, label=None), image)
    with pytest.raises(InputError, match="stack sha256:1 of the receipt is not known here"):
        replay(replace(receipt, stack="sha256:1"), image)
    BaseModel.objects.update(fingerprint="sha256:" + "9" * 64)
    with pytest.raises(InputError, match="belongs to base sha256:9"):
        replay(receipt, image)


@pytest.mark.parametrize("whole", [True, False])
def test_the_command_takes_the_answer_of_the_api(
    asked: tuple[Receipt, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: bool
) -> None:
    """Or the receipt alone; its exit code says whether the answer is the same."""
    receipt, image = asked
    (tmp_path / "screen.png").write_bytes(image)
    body = asdict(receipt)
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps({"text": "…", "receipt": body} if whole else body))
    call_command("replay", str(file), image=tmp_path / "screen.png")
    assert "The answer is the same." in capsys.readouterr().out
    file.write_text(json.dumps(body | {"answer": content_digest(b"other words")}))
    with pytest.raises(CommandError, match="The answer is not the same") as refused:
        call_command("replay", str(file), image=tmp_path / "screen.png")
    assert refused.value.returncode == 1
    assert "differs: answer was sha256:" in capsys.readouterr().out
    file.write_text("[")
    with pytest.raises(CommandError, match="not valid JSON") as refused:
        call_command("replay", str(file), image=tmp_path / "screen.png")
    assert refused.value.returncode == 2


@pytest.mark.parametrize("text", ["[]", "3", '{"receipt": null}', '{"receipt": {"stack": 1}}', "[" * 100_000, "{}"])
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        wire.load_receipt(text.encode())
