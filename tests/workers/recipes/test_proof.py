"""Proof of adapter: what training recorded is asked again at the load, and each refusal says why."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adapters.backbone.loading import load_model, load_processor
from adapters.backbone.spec import BaseSpec, fingerprint
from adapters.canaries import CANARY_FILE, Canaries
from adapters.card import AdapterCard
from adapters.store import Store, StoredFile, manifest_digest
from adapters.validation import validate_adapter
from datasets_app.errors import InputError
from inference.engines.in_process import InProcessEngine
from inference.engines.in_process.canaries import record
from inference.engines.in_process.lora import NO_ADAPTER
from inference.engines.in_process.runner import Runner
from inference.engines.types import AdapterRef, Request
from tests.workers.recipes.recording import RecordingJob

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def folders() -> dict[str, Path]:
    """Where the adapters of this module's engine lie, by digest."""
    return {}


@pytest.fixture(scope="module")
def engine(folders: dict[str, Path]) -> Iterator[InProcessEngine]:
    made = InProcessEngine.load(BaseSpec(device="cpu"), folders.__getitem__)
    yield made
    made.close()


@pytest.fixture(scope="module")
def question(screens: dict[str, Path]) -> Request:
    return Request("", next((screens["calendar"] / "images").iterdir()).read_bytes(), "Do it.", 4)


@pytest.fixture
def adapter(trained_router: RecordingJob, tmp_path: Path) -> Path:
    """A copy of the really trained router, to break."""
    return Path(shutil.copytree(trained_router.out / "final", tmp_path / "adapter"))


@pytest.fixture
def load(engine: InProcessEngine, folders: dict[str, Path], question: Request) -> Callable[[Path], dict[str, float]]:
    """Ask the router in a folder, which has never been through a store."""

    def ask(folder: Path) -> dict[str, float]:
        files = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
        digest = manifest_digest(
            tuple(StoredFile(name, hashlib.sha256(data).hexdigest(), len(data)) for name, data in files)
        )
        folders[digest] = folder
        return engine.route_scores_many(AdapterRef("my-router", digest), [question])[0]

    return ask


def change_weights(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor | None]) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    changed = {name: made for name, tensor in tensors.items() if (made := change(name, tensor)) is not None}
    safetensors.torch.save_file(changed, folder / WEIGHTS)


def change_json(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_bytes()) | fields))


def no_op(folder: Path, _: Path) -> None:
    change_weights(folder, lambda name, tensor: tensor * 0 if "lora_B" in name else tensor)


def faint(folder: Path, _: Path) -> None:
    change_weights(folder, lambda name, tensor: tensor * 1e-9 if "lora_B" in name else tensor)


def overflowing(folder: Path, _: Path) -> None:
    change_weights(folder, lambda _, tensor: torch.full_like(tensor, 1e36))


def stale(folder: Path, work: Path) -> None:
    """The weights of an earlier step of the same training under the canaries of its end."""
    own = (folder / WEIGHTS).read_bytes()
    others = [file for file in work.glob(f"checkpoint-*/{WEIGHTS}") if file.read_bytes() != own]
    shutil.copy(others[0], folder / WEIGHTS)


def swapped(folder: Path, _: Path) -> None:
    """Another adapter of the same shape."""
    change_weights(folder, lambda name, tensor: -tensor if "lora_B" in name else tensor)


def without_a_key(folder: Path, _: Path) -> None:
    change_weights(folder, lambda name, tensor: None if name.endswith("2.self_attn.q_proj.lora_A.weight") else tensor)


def without_a_module(folder: Path, _: Path) -> None:
    change_weights(folder, lambda name, tensor: None if ".q_proj." in name else tensor)


def with_a_module(folder: Path, _: Path) -> None:
    change_json(folder / CANARY_FILE, modules=["down_proj", "gate_proj", "k_proj", "o_proj", "up_proj", "v_proj"])


def cut_off(folder: Path, _: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1000])


def of_another_base(folder: Path, _: Path) -> None:
    change_json(folder / "switchyard.json", base="sha256:" + "0" * 64)


def with_another_system_turn(folder: Path, _: Path) -> None:
    change_json(folder / "switchyard.json", system="You are somebody else.")


def with_another_budget(folder: Path, _: Path) -> None:
    change_json(folder / "switchyard.json", max_pixels=9 * 1024)


def with_other_labels(folder: Path, _: Path) -> None:
    change_json(folder / "switchyard.json", labels=["calendar", "provider-select"])


def of_another_dtype(folder: Path, _: Path) -> None:
    change_json(folder / "switchyard.json", dtype="bfloat16")
    (folder / CANARY_FILE).unlink()


def between_tiles(folder: Path, _: Path) -> None:
    change_json(folder / "switchyard.json", max_pixels=9 * 1024 + 1)
    (folder / CANARY_FILE).unlink()


def beyond_the_context(folder: Path, _: Path) -> None:
    change_json(folder / "switchyard.json", max_pixels=4096 * 1024)
    (folder / CANARY_FILE).unlink()


def with_canaries_of_another_vocabulary(folder: Path, _: Path) -> None:
    canaries = json.loads((folder / CANARY_FILE).read_bytes())["canaries"]
    change_json(folder / CANARY_FILE, canaries=[canary | {"tokens": [10**6] * 16} for canary in canaries])


def with_a_broken_screenshot(folder: Path, _: Path) -> None:
    canaries = json.loads((folder / CANARY_FILE).read_bytes())["canaries"]
    change_json(folder / CANARY_FILE, canaries=[canary | {"image": "R0lGODlh"} for canary in canaries])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_op, "every lora_B is zero, so the adapter changes nothing"),
        (faint, "The adapter is a no-op: it changes nothing of what the base answers"),
        (overflowing, "gives no numbers"),
        (stale, r"swapped or stale: its logits differ from those recorded at the training by \d"),
        (swapped, r"swapped or stale: its logits differ from those recorded at the training by \d"),
        (without_a_key, "come in pairs, but these are alone: .*layers.2.self_attn.q_proj.lora_B"),
        (without_a_module, "truncated: training adapted q_proj, too, whose keys are gone"),
        (with_a_module, "has keys of q_proj, which training did not adapt"),
        (cut_off, "is cut off or broken"),
        (of_another_base, "trained on another base model"),
        (with_another_system_turn, "The card has changed since the training: template, pixel budget, labels and dtype"),
        (with_another_budget, "The card has changed since the training"),
        (with_other_labels, "The card has changed since the training"),
        (of_another_dtype, "was trained in bfloat16, but this model computes in float32"),
        (between_tiles, "max_pixels is 9217: the base's processor needs a multiple of 1024"),
        (beyond_the_context, "max_pixels is 4194304: more than the base's context of 4096 tokens"),
        (with_canaries_of_another_vocabulary, "tokens that the base does not have"),
        (with_a_broken_screenshot, "PNG, JPEG or WEBP"),
    ],
)
def test_an_adapter_that_is_not_what_training_made_is_refused(
    damage: Callable[[Path, Path], None],
    reason: str,
    adapter: Path,
    trained_router: RecordingJob,
    engine: InProcessEngine,
    load: Callable[[Path], dict[str, float]],
) -> None:
    """With the reason, an empty slot behind it, and the others as they were."""
    right = load(trained_router.out / "final")
    before = engine.status()
    damage(adapter, trained_router.work)
    with pytest.raises(InputError, match=f"Adapter 'my-router': .*{reason}"):
        load(adapter)
    assert engine.status() == before
    taken = {NO_ADAPTER, *(resident.slot for resident in engine._pool._residents.values())}
    for module in engine._slots._modules.values():
        free = [slot for slot in range(len(module.a)) if slot not in taken]
        assert not module.a[free].any()
        assert not module.b[free].any()
    assert load(trained_router.out / "final") == right


def test_a_trained_adapter_is_proven_and_one_without_canaries_is_not(
    adapter: Path,
    trained_router: RecordingJob,
    engine: InProcessEngine,
    folders: dict[str, Path],
    load: Callable[[Path], dict[str, float]],
) -> None:
    scores = load(trained_router.out / "final")
    assert engine.status()["unproven"] == []
    (adapter / CANARY_FILE).unlink()
    assert load(adapter) == pytest.approx(scores, abs=1e-5)
    (digest,) = [digest for digest, folder in folders.items() if folder == adapter]
    assert engine.status()["unproven"] == [digest]


def test_a_base_that_talks_otherwise_is_noticed(
    adapter: Path, folders: dict[str, Path], load: Callable[[Path], dict[str, float]], question: Request
) -> None:
    """Whatever its fingerprint says."""
    load(adapter)
    (digest,) = [digest for digest, folder in folders.items() if folder == adapter]
    spec = BaseSpec(device="cpu")
    processor = load_processor(spec)
    processor.chat_template = processor.chat_template.replace("assistant", "helper")
    other = InProcessEngine(load_model(spec), processor, fingerprint(spec), folders.__getitem__)
    try:
        with pytest.raises(InputError, match="The prompt template is not that of the training"):
            other.route_scores_many(AdapterRef("my-router", digest), [question])
    finally:
        other.close()


def test_canaries_are_part_of_the_version(adapter: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    stored = store.add(adapter)
    assert store.verify(stored.digest) == stored
    change_json(adapter / CANARY_FILE, device="cuda")
    assert store.add(adapter).digest != stored.digest
    file = stored.path / CANARY_FILE
    stored.path.chmod(0o755)
    file.unlink()
    with pytest.raises(InputError, match="changed since they were stored"):
        store.verify(stored.digest)


@pytest.mark.parametrize("damage", [without_a_module, with_another_system_turn])
def test_what_needs_no_model_is_refused_at_the_registration(
    damage: Callable[[Path, Path], None], adapter: Path, tmp_path: Path
) -> None:
    damage(adapter, tmp_path)
    with pytest.raises(InputError, match=r"truncated|card has changed"):
        validate_adapter(adapter)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "not valid JSON"),
        ("{}", "field 'device': Field required"),
        ('{"device": "cpu", "card": "", "template": "", "modules": [], "canaries": []}', "at least 1 item"),
        (
            '{"device": "cpu", "card": "", "template": "", "modules": [], "canaries": '
            '[{"image": "", "words": "", "tokens": [1, 2], "logits": [1.0], "difference": 1}]}',
            "each token needs its logit",
        ),
        (
            '{"device": "cpu", "card": "", "template": "", "modules": [], "canaries": '
            '[{"image": "", "words": "", "tokens": [1], "logits": [NaN], "difference": 1}]}',
            "nan, which is not a finite number",
        ),
    ],
)
def test_broken_canaries_are_refused(adapter: Path, text: str, reason: str) -> None:
    (adapter / CANARY_FILE).write_text(text)
    with pytest.raises(InputError, match=rf"canaries.json.*{reason}"):
        validate_adapter(adapter)


def test_another_precision_stays_within_its_tolerance_and_a_stale_adapter_does_not(
    adapter: Path, trained_router: RecordingJob, folders: dict[str, Path], question: Request, tmp_path: Path
) -> None:
    """Canaries recorded by PEFT in bfloat16, whose matrices stay float32, asked in the slots, which are bfloat16."""
    from peft import PeftModel

    spec = BaseSpec(device="cpu", dtype="bfloat16")
    processor, card = load_processor(spec), AdapterCard.read(adapter).model_copy(update={"dtype": "bfloat16"})
    card.write(adapter)
    model = PeftModel.from_pretrained(load_model(spec), adapter).eval()  # type: ignore[arg-type]
    made: Canaries = record(Runner(model, processor), card, model.disable_adapter)
    made.write(adapter)
    old = Path(shutil.copytree(adapter, tmp_path / "old"))
    stale(old, trained_router.work)
    store = Store(tmp_path / "store")
    engine = InProcessEngine.load(spec, store.path)
    try:
        engine.route_scores_many(AdapterRef("router", store.add(adapter).digest), [question])
        assert engine.status()["unproven"] == []
        with pytest.raises(InputError, match="swapped or stale"):
            engine.route_scores_many(AdapterRef("router", store.add(old).digest), [question])
    finally:
        engine.close()
