"""Training: learns, resumes exactly, refuses what cannot become an adapter."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from adapters.backbone.loading import load_model, load_processor
from adapters.backbone.spec import TINY_BASE, BaseSpec
from adapters.card import AdapterCard
from adapters.validation import validate_adapter
from datasets_app.errors import InputError
from inference.engines.in_process.runner import Runner
from tests.workers.recipes.recording import RecordingJob
from workers.recipes import train
from workers.recipes.errors import RecipeError
from workers.recipes.prepared import PREPROCESS_FILE, Prepared, load_split
from workers.recipes.train import Spec
from workers.recipes.training.checkpoints import newest_whole, seal
from workers.recipes.training.plan import plan
from workers.recipes.training.samples import IGNORED, Samples
from workers.recipes.training.trainer import Reporter
from workers.recipes.training.validation import expert_validation

pytestmark = pytest.mark.long

SHORT: dict[str, Any] = {
    "max_steps": 9, "eval_every": 3, "batch_size": 4, "val_samples": 8, "threads": 1, "rank": 4, "patience": 99,
}  # fmt: skip


def weights(job: RecordingJob) -> bytes:
    return (job.out / "final" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordingJob:
    """A short training that nothing disturbed."""
    job = RecordingJob(tmp_path_factory.mktemp("short"))
    train.run(Spec(data=prepared_folder, **SHORT), job)
    return job


def test_a_router_learns_to_route(trained_router: RecordingJob) -> None:
    best = AdapterCard.read(trained_router.out / "final").lineage["best"]
    assert best["macro_f1"] >= 0.9
    losses = [metrics["loss"] for *_, metrics in trained_router.reports if "loss" in metrics]
    assert losses[-1] < losses[0] / 3


def test_the_result_is_an_adapter_with_its_lineage(trained_router: RecordingJob, prepared_folder: Path) -> None:
    facts = validate_adapter(trained_router.out)
    assert (facts.rank, facts.alpha) == (16, 32)
    assert sorted(path.name for path in (trained_router.out / "final").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "canaries.json", "switchyard.json",
    ]  # fmt: skip
    card, prepared = AdapterCard.read(trained_router.out / "final"), Prepared.read(prepared_folder)
    assert card.model_copy(update={"lineage": {}}) == prepared.card.model_copy(update={"dtype": "float32"})
    assert card.lineage["dataset"] == prepared.dataset
    assert card.lineage["hyperparameters"]["seed"] == 0
    assert card.lineage["packages"]["trl"]
    text = (trained_router.out / "final" / "switchyard.json").read_text()
    text += (trained_router.out / "final" / "adapter_config.json").read_text()
    assert str(prepared_folder) not in text
    assert str(TINY_BASE.parent) not in text


def test_metrics_arrive_while_training(uninterrupted: RecordingJob) -> None:
    steps = [done for step, done, total, metrics in uninterrupted.reports if step == "train" and "macro_f1" in metrics]
    assert steps == [3, 6, 9]
    assert any("loss" in metrics for *_, metrics in uninterrupted.reports)


def test_a_killed_training_resumes_to_the_same_weights(
    prepared_folder: Path, uninterrupted: RecordingJob, tmp_path: Path
) -> None:
    job = RecordingJob(tmp_path)
    options = [part for name, value in SHORT.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "workers.recipes.train", "--data", str(prepared_folder), *options]
    killed = subprocess.Popen(
        [*command, "--out", str(tmp_path / "killed"), "--work", str(job.work)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 90
    while not (job.work / "sealed" / "checkpoint-3" / "manifest.json").exists():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed").exists()
    summary = train.run(Spec(data=prepared_folder, **SHORT), job)
    assert summary["resumed_from"].startswith("checkpoint-")
    assert weights(job) == weights(uninterrupted)


def test_a_rank_whose_header_begins_as_a_pickle_does_is_trained_and_resumed(
    prepared_folder: Path, tmp_path: Path
) -> None:
    """The first byte of a safetensors file is the low one of its header's length: 0x80 at rank 40, not at 39."""
    spec = Spec(data=prepared_folder, **SHORT | {"rank": 40, "max_steps": 2, "eval_every": 2, "val_samples": 2})
    job, again = RecordingJob(tmp_path), RecordingJob(tmp_path, "again")
    train.run(spec, job)
    assert weights(job)[0] == 0x80
    assert validate_adapter(job.out).rank == 40
    assert train.run(spec, again)["resumed_from"] == "checkpoint-2"
    assert weights(again) == weights(job)


def cut_short(checkpoint: Path) -> None:
    file = checkpoint / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-100])


def spoil(checkpoint: Path) -> None:
    """NaN in the weights, sealed as if training had written it so."""
    file = checkpoint / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors[next(iter(tensors))].fill_(float("nan"))
    save_file(tensors, file)
    seal(checkpoint)


def flip(checkpoint: Path) -> None:
    """One bit of the weights: they are numbers still, and others."""
    file = checkpoint / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("broken", "harm", "resumed_from"),
    [(9, cut_short, "checkpoint-6"), (9, spoil, "checkpoint-6"), ("best", flip, None)],
)
def test_a_broken_checkpoint_is_passed_over(
    prepared_folder: Path,
    uninterrupted: RecordingJob,
    tmp_path: Path,
    broken: Any,
    harm: Callable[[Path], None],
    resumed_from: str | None,
) -> None:
    """The newest; or the best, on which the newer ones lean."""
    job = RecordingJob(tmp_path)
    shutil.rmtree(job.work)
    shutil.copytree(uninterrupted.work, job.work)
    if broken == "best":
        state = json.loads((job.work / "checkpoint-9" / "trainer_state.json").read_bytes())
        broken = Path(state["best_model_checkpoint"]).name.removeprefix("checkpoint-")
        older = [step for step in (3, 6) if step < int(broken)]
        resumed_from = f"checkpoint-{older[-1]}" if older else None
    harm(job.work / f"checkpoint-{broken}")
    summary = train.run(Spec(data=prepared_folder, **SHORT), job)
    assert summary["resumed_from"] == resumed_from
    assert weights(job) == weights(uninterrupted)


def test_a_training_killed_after_its_last_step_only_writes_its_result(
    prepared_folder: Path, uninterrupted: RecordingJob, tmp_path: Path
) -> None:
    job = RecordingJob(tmp_path)
    job.work = uninterrupted.work
    summary = train.run(Spec(data=prepared_folder, **SHORT), job)
    assert summary["resumed_from"] == "checkpoint-9"
    assert weights(job) == weights(uninterrupted)


def test_a_work_folder_that_was_moved_is_resumed_from(
    prepared_folder: Path, uninterrupted: RecordingJob, tmp_path: Path
) -> None:
    job = RecordingJob(tmp_path)
    shutil.rmtree(job.work, ignore_errors=True)
    kept = tmp_path / "kept"
    newest = newest_whole(uninterrupted.work)
    shutil.copytree(uninterrupted.work, kept)
    uninterrupted.work.rename(job.work)
    try:
        summary = train.run(Spec(data=prepared_folder, **SHORT), job)
    finally:
        kept.rename(uninterrupted.work)
    assert newest and summary["resumed_from"] == newest.name
    assert weights(job) == weights(uninterrupted)


def test_only_sealed_checkpoints_count(tmp_path: Path) -> None:
    assert newest_whole(tmp_path / "none") is None
    for step in (5, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "state").write_text(str(step))
    assert newest_whole(tmp_path) is None
    for step in (5, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "state").write_text(str(step))
        seal(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-100").mkdir()
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-100").exists()


def test_another_trainings_checkpoints_are_not_resumed(
    prepared_folder: Path, uninterrupted: RecordingJob, tmp_path: Path
) -> None:
    job = RecordingJob(tmp_path)
    job.work = uninterrupted.work
    with pytest.raises(InputError, match="checkpoints of another training"):
        train.run(Spec(data=prepared_folder, **SHORT | {"seed": 1}), job)


def test_checkpoints_of_the_same_dataset_split_otherwise_are_not_resumed(
    prepared_folder: Path, uninterrupted: RecordingJob, tmp_path: Path
) -> None:
    """They may have learnt what is held out now."""
    data = shutil.copytree(prepared_folder, tmp_path / "data")
    facts = json.loads((data / PREPROCESS_FILE).read_text())
    (data / PREPROCESS_FILE).write_text(json.dumps(facts | {"split_seed": 7}))
    job = RecordingJob(tmp_path / "job")
    job.work = uninterrupted.work
    with pytest.raises(InputError, match="checkpoints of another training"):
        train.run(Spec(data=data, **SHORT), job)


def test_a_training_that_changes_nothing_is_refused(prepared_folder: Path, tmp_path: Path) -> None:
    still = SHORT | {"learning_rate": 1e-45, "max_steps": 1, "eval_every": 1}
    with pytest.raises(RecipeError, match="changes nothing"):
        train.run(Spec(data=prepared_folder, **still), RecordingJob(tmp_path))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path, loss: float) -> None:
    state: Any = type("State", (), {"global_step": 7, "max_steps": 9})()
    arguments: Any = None
    with pytest.raises(RecipeError, match=r"diverged: loss is (nan|inf) at step 7; lower learning_rate"):
        Reporter(RecordingJob(tmp_path)).on_log(arguments, state, arguments, {"loss": loss})


@pytest.mark.parametrize("side", ["train", "val"])
def test_an_empty_split_is_refused(prepared_folder: Path, tmp_path: Path, side: str) -> None:
    folder = tmp_path / "data"
    shutil.copytree(prepared_folder, folder)
    facts = json.loads((folder / PREPROCESS_FILE).read_text())
    facts["counts"][side] = 0
    (folder / PREPROCESS_FILE).write_text(json.dumps(facts))
    with pytest.raises(InputError, match=f"the {side} split of .* is empty"):
        train.run(Spec(data=folder), RecordingJob(tmp_path))


def test_data_for_another_base_is_refused(prepared_folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(TINY_BASE, base)
    with (base / "config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match="prepared for another base model"):
        train.run(Spec(data=prepared_folder, base=str(base)), RecordingJob(tmp_path))
    with pytest.raises(InputError, match="no prepared dataset"):
        train.run(Spec(data=tmp_path), RecordingJob(tmp_path, "again"))


def test_every_sample_has_trained_labels(expert_data: Path) -> None:
    processor = load_processor(BaseSpec())
    runner = Runner(load_model(BaseSpec()), processor)
    card, rows = Prepared.read(expert_data).card, load_split(expert_data, "val")
    samples = Samples(runner, card, rows, cache_bytes=10**8)
    inputs = samples.batch(range(len(samples)))
    for row, ids, labels in zip(rows, inputs["input_ids"], inputs["labels"], strict=True):
        trained = labels[labels != IGNORED]
        assert processor.tokenizer.decode(trained[:-1]) == row["answer"]
        assert int(trained[-1]) == runner.end
        assert torch.equal(ids[labels != IGNORED], trained)


def test_teacher_forcing_agrees_with_greedy_decoding(expert_data: Path) -> None:
    """An expert's validation must count what generation would answer: let targets be what the base generates."""
    from inference.engines.in_process.runner import generate_batch

    processor, model = load_processor(BaseSpec()), load_model(BaseSpec())
    card, rows = Prepared.read(expert_data).card, load_split(expert_data, "val").select(range(6))
    samples = Samples(Runner(model, processor), card, rows, cache_bytes=0)
    samples.words = ["Say the row and column."] * 6  # what the base was asked before: it answers in few words
    images, words = [images[0] for images in rows["images"]], samples.words
    said = generate_batch(model, processor, card, images, words, max_tokens=24)
    ends = [samples.runner.prompts.name_ids(text) for text in said]
    stopped = [len(ids) < 24 for ids in ends]
    samples.targets = [text if number % 2 else text + "!" for number, text in enumerate(said)]
    expected = sum(stopped[number] for number in (1, 3, 5))
    assert expert_validation(samples, 4)()["exact"] == pytest.approx(expected / 6)


def test_what_the_spec_leaves_open(monkeypatch: pytest.MonkeyPatch) -> None:
    small = plan(Spec(data=Path("x"), device="cpu"), "router")
    assert (small.device, small.dtype, small.micro_batch_size) == ("cpu", "float32", 16)
    assert not small.gradient_checkpointing
    large = plan(Spec(data=Path("x"), device="cpu", base="Qwen/Qwen3-VL-8B-Instruct", base_revision="a" * 40), "expert")
    assert large.learning_rate < small.learning_rate
    assert (large.micro_batch_size, large.gradient_checkpointing) == (1, True)
    assert plan(Spec(data=Path("x"), device="cpu", max_steps=3, eval_every=50), "router").eval_every == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="offers no such GPU"):
        plan(Spec(data=Path("x"), device="cuda:1"), "router")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0}, {"rank": 10**6}, {"alpha": -1}, {"learning_rate": 0}, {"learning_rate": float("nan")},
        {"max_steps": 0}, {"batch_size": 0}, {"batch_size": 6, "micro_batch_size": 4}, {"device": "tpu"},
        {"dtype": "int8"}, {"dropout": 1.0}, {"schedule": "none"}, {"seed": -1}, {"learn_rate": 1e-3},
    ],
)  # fmt: skip
def test_a_spec_that_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Spec.model_validate({"data": "x"} | wrong)
