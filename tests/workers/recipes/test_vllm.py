"""The engine `http` against a real vLLM, started as docs/engines.md says, on the tiny base: `make test-vllm`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import safetensors.torch

from adapters.backbone.loading import load_model
from adapters.backbone.spec import TINY_BASE, BaseSpec, fingerprint
from adapters.canaries import Canaries
from adapters.card import AdapterCard
from adapters.store import Store
from datasets_app.errors import InputError
from datasets_app.formats.conversation import user_words
from datasets_app.formats.routing import read
from inference.engines.base import EngineError, StackNotDeployed
from inference.engines.canaries import TOLERANCE
from inference.engines.chat import model_name
from inference.engines.http import HttpEngine
from inference.engines.in_process import InProcessEngine
from inference.engines.types import AdapterRef, Request, StackedResult, StackSpec
from tests.inference.engines.served import await_health
from tests.inference.engines.small import make_adapter
from tests.workers.recipes.recording import RecordingJob

VLLM = os.environ.get("SWITCHYARD_VLLM", "")
TOKEN = "engine-token"
DOCS = Path(__file__).parents[3] / "docs" / "engines.md"
ASKED = 24
pytestmark = pytest.mark.skipif(not VLLM, reason="SWITCHYARD_VLLM names no vllm executable")


def documented() -> tuple[dict[str, str], list[str]]:
    """Environment and options of the documented command, without what names the machine's base and key."""
    text = DOCS.read_text()
    command = text[text.index("VLLM_ALLOW") :].partition("\n\n")[0].replace("\\\n", " ")
    words = shlex.split(command)
    serve = words.index("vllm")
    options = words[serve + 3 :]
    for own in ("--revision", "--served-model-name", "--api-key"):
        at = options.index(own)
        del options[at : at + 2]
    return dict(word.split("=", 1) for word in words[:serve]), options


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a vLLM that serves the tiny base. What Qwen's bases bring for videos, which vLLM needs, is added."""
    base = Path(shutil.copytree(TINY_BASE, tmp_path_factory.mktemp("vllm") / "base"))
    config = json.loads((base / "processor_config.json").read_bytes())
    config |= {
        "processor_class": "Qwen3VLProcessor",
        "video_processor": {"video_processor_type": "Qwen3VLVideoProcessor"},
    }
    (base / "processor_config.json").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables, options = documented()
    own = ["--served-model-name", fingerprint(BaseSpec()), "--api-key", TOKEN, "--dtype", "float32"]
    place = ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "4096", "--enforce-eager"]
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    folder = Path(VLLM).parent
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    environment = kept | offline | variables | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen([VLLM, "serve", str(base), *options, *own, *place], env=environment)
    url = f"http://127.0.0.1:{port}"
    await_health(url, process, 600)
    yield url
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def stack(store: Store, trained_router: RecordingJob, tmp_path_factory: pytest.TempPathFactory) -> StackSpec:
    """A really trained router, and experts of random weights, one of which sees fewer pixels."""
    root, mark = tmp_path_factory.mktemp("experts"), fingerprint(BaseSpec())
    card = AdapterCard(kind="expert", base=mark, system="You click.", min_pixels=4096, max_pixels=36_864)
    fewer = card.model_copy(update={"max_pixels": 16_384, "human": "Task: {prompt}\n<image>", "system": None})
    cards = {"calendar": card, "provider-select": fewer}
    folders = {name: make_adapter(lambda: load_model(BaseSpec()), root / name, card) for name, card in cards.items()}
    for folder in folders.values():
        fade(folder, 0.15)
    experts = tuple(AdapterRef(name, store.add(folder).digest) for name, folder in folders.items())
    return StackSpec(mark, AdapterRef("router", store.add(trained_router.out / "final").digest), experts)


def fade(folder: Path, by: float) -> None:
    """Let the adapter do less."""
    weights = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    less = {name: tensor * by if "lora_B" in name else tensor for name, tensor in weights.items()}
    safetensors.torch.save_file(less, folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def engine(server: str, store: Store, stack: StackSpec) -> Iterator[HttpEngine]:
    made = HttpEngine(server, TOKEN, str(store.root))
    made.deploy(stack)
    yield made
    made.close()


@pytest.fixture(scope="module")
def requests(stack: StackSpec, routing_folder: Path) -> list[Request]:
    rows = read(routing_folder).splits["eval"]
    return [
        Request(stack.digest, row.image.read_bytes(), row.prompt or user_words(row.human), 16 + number % 8)
        for number, row in enumerate(rows[:: max(1, len(rows) // ASKED)])
    ]


@pytest.fixture(scope="module")
def expected(store: Store, stack: StackSpec, requests: list[Request]) -> list[StackedResult]:
    """What our own engine answers."""
    made = InProcessEngine.load(BaseSpec(device="cpu"), store.path)
    made.deploy(stack)
    answers = [made.infer(request) for request in requests]
    made.close()
    return answers


def test_it_decides_and_answers_as_our_own_engine(
    engine: HttpEngine, requests: list[Request], expected: list[StackedResult]
) -> None:
    """Together, with several adapters in a batch. How likely labels are is counted otherwise: see docs/engines.md."""
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(engine.infer, requests))
    assert {answer.decision.label for answer in answers} == {"calendar", "provider-select", "none"}
    for answer, ours in zip(answers, expected, strict=True):
        assert (answer.text, answer.tokens, answer.finish_reason) == (ours.text, ours.tokens, ours.finish_reason)
        assert answer.decision.label == ours.decision.label
        assert answer.decision.probabilities == pytest.approx(ours.decision.probabilities, abs=0.1)


def test_the_router_is_proven_by_the_canaries_of_its_training(
    engine: HttpEngine, requests: list[Request], expected: list[StackedResult]
) -> None:
    request = next(asked for asked, ours in zip(requests, expected, strict=True) if ours.decision.adapter)
    receipt = engine.infer(request).receipt
    assert receipt is not None and receipt.router is not None and receipt.expert is not None
    assert (receipt.router.proven, receipt.expert.proven) == (True, False)


def test_it_meets_the_recorded_logits_to_a_millionth(
    server: str, store: Store, stack: StackSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert AdapterCard.read(store.path(stack.router.digest)).dtype == "float32"
    monkeypatch.setitem(TOLERANCE, "float32", (0.0, 1e-6))
    other = HttpEngine(server, TOKEN, str(store.root))
    other.deploy(stack)
    other.close()


def swapped(folder: Path) -> None:
    canaries = Canaries.read(folder)
    assert canaries is not None
    others = tuple(c.model_copy(update={"logits": tuple(reversed(c.logits))}) for c in canaries.canaries)
    canaries.model_copy(update={"canaries": others}).write(folder)


def no_op(folder: Path) -> None:
    (folder / "canaries.json").unlink()
    fade(folder, 1e-9)


@pytest.mark.parametrize(("spoil", "reason"), [(swapped, "swapped or stale"), (no_op, "no-op")])
def test_an_adapter_that_is_not_the_trained_one_is_refused_and_unloaded(
    engine: HttpEngine,
    server: str,
    store: Store,
    stack: StackSpec,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    reason: str,
) -> None:
    folder = Path(shutil.copytree(store.path(stack.router.digest), tmp_path / "router"))
    for file in folder.iterdir():
        file.chmod(0o644)
    spoil(folder)
    wrong = AdapterRef("router", store.add(folder).digest)
    with pytest.raises(InputError, match=f"Adapter 'router': The adapter is .*{reason}"):
        engine.deploy(StackSpec(stack.base, wrong, stack.experts))
    assert model_name(wrong) not in models(server)


def test_a_rank_beyond_the_server_is_told(engine: HttpEngine, store: Store, stack: StackSpec, tmp_path: Path) -> None:
    card = AdapterCard.read(store.path(stack.experts[0].digest))
    folder = make_adapter(lambda: load_model(BaseSpec()), tmp_path / "wide", card, r=128)
    wide = AdapterRef("calendar", store.add(folder).digest)
    with pytest.raises(EngineError, match="LoRA rank 128 is greater than max_lora_rank 64"):
        engine.deploy(StackSpec(stack.base, stack.router, (wide, *stack.experts[1:])))


def test_adapters_that_the_server_forgot_are_loaded_and_proven_again(
    engine: HttpEngine, server: str, stack: StackSpec, requests: list[Request], expected: list[StackedResult]
) -> None:
    forgotten = model_name(stack.router)
    answer = httpx.post(f"{server}/v1/unload_lora_adapter", headers=headers(), json={"lora_name": forgotten})
    assert answer.status_code == 200
    with pytest.raises(StackNotDeployed):
        engine.infer(requests[0])
    engine.deploy(stack)
    assert engine.infer(requests[0]).text == expected[0].text


def test_a_stream_tells_the_decision_first_and_ends_with_the_whole(
    engine: HttpEngine, requests: list[Request], expected: list[StackedResult]
) -> None:
    request, ours = next((a, b) for a, b in zip(requests, expected, strict=True) if b.tokens > 2)
    decision, *deltas, result = engine.stream(request)
    assert decision == result.decision and result.text == ours.text  # type: ignore[union-attr]
    assert "".join(delta.text for delta in deltas) == ours.text  # type: ignore[union-attr]


def headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}"}


def models(server: str) -> set[str]:
    return {model["id"] for model in httpx.get(f"{server}/v1/models", headers=headers()).json()["data"]}
