"""Training activated adapters: what they are shown, how they are measured, and that they share a prefix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.backbone.spec import BaseSpec
from adapters.card import AdapterCard, share_prefix
from adapters.store import Store
from datasets_app.errors import InputError
from inference.engines.in_process import InProcessEngine
from inference.engines.types import AdapterRef, Request, StackSpec
from inference.routing.metrics import confusion, macro_f1
from inference.routing.scoring import best
from tests.workers.recipes.recording import RecordingJob
from workers.recipes import train
from workers.recipes.evaluation.samples import read_questions
from workers.recipes.prepared import Prepared
from workers.recipes.training.layout import activated_card

OPENING = (5, 6)


@pytest.fixture(scope="module")
def router(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordingJob:
    """The job of a really trained one."""
    job = RecordingJob(tmp_path_factory.mktemp("activated-router"))
    train.run(train.Spec(data=prepared_folder, threads=1, max_steps=60, eval_every=20, activated=True), job)
    return job


@pytest.fixture(scope="module")
def expert(expert_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordingJob:
    """The job of a hardly trained one, validated twice between steps whose activations are not kept."""
    job = RecordingJob(tmp_path_factory.mktemp("activated-expert"))
    hardly = {"max_steps": 2, "eval_every": 1, "batch_size": 4, "micro_batch_size": 2, "val_samples": 4, "rank": 2}
    spec = {"data": expert_data, "threads": 1, "activated": True, "gradient_checkpointing": True, "warmup_steps": 0}
    train.run(train.Spec.model_validate(spec | hardly), job)
    return job


def test_card_and_configuration_say_that_it_is_activated(router: RecordingJob, prepared_folder: Path) -> None:
    card = AdapterCard.read(router.out / "final")
    config = json.loads((router.out / "final" / "adapter_config.json").read_text())
    assert config["alora_invocation_tokens"] == list(card.invocation) != []
    assert (card.system, card.human) == (None, "<image>\n{prompt}")
    shown = {"system", "human", "invocation", "dtype", "lineage"}
    assert card.model_dump(exclude=shown) == Prepared.read(prepared_folder).card.model_dump(exclude=shown)
    assert card.lineage["hyperparameters"]["activated"] is True


def test_it_routes_and_the_engine_measures_what_the_training_did(
    router: RecordingJob, expert: RecordingJob, prepared_folder: Path, tmp_path: Path
) -> None:
    store, card = Store(tmp_path), AdapterCard.read(router.out / "final")
    refs = [AdapterRef(name, store.add(job.out).digest) for name, job in (("router", router), ("calendar", expert))]
    engine = InProcessEngine.load(BaseSpec(device="cpu"), store.path)
    try:
        questions = read_questions(prepared_folder, "val", None)
        requests = [Request("", sample.image(), sample.words, 8) for sample in questions.samples]
        rows = engine.route_scores_many(refs[0], requests)
        other = AdapterRef("provider-select", refs[1].digest)
        stack = StackSpec(engine.base, refs[0], (refs[1], other))
        engine.deploy(stack)
        asked = Request(stack.digest, requests[0].image, requests[0].prompt, 8)
        result, alone = engine.infer(asked), engine.generate_many(refs[1], [asked])
        assert engine.status()["unproven"] == []
    finally:
        engine.close()
    labels = [str(sample.label) for sample in questions.samples]
    reached = macro_f1(confusion(card.labels, labels, [best(row) for row in rows]))
    confidence = sum(row[label] for row, label in zip(rows, labels, strict=True)) / len(rows)
    assert reached == pytest.approx(card.lineage["best"]["macro_f1"])
    assert confidence == pytest.approx(card.lineage["best"]["confidence"], abs=1e-4)
    assert reached >= 0.9
    assert result.decision.label == labels[0]
    assert [result.text] == (alone if result.decision.adapter else [""])


def test_router_and_expert_share_though_their_data_differ(router: RecordingJob, expert: RecordingJob) -> None:
    cards = [AdapterCard.read(job.out / "final").model_dump(mode="json") for job in (router, expert)]
    assert share_prefix(*cards)
    assert [report[1] for report in expert.reports if "exact" in report[3]] == [1, 2]


def test_data_in_which_no_user_says_anything_keep_their_texts() -> None:
    card = AdapterCard(
        kind="router", base="b", system="Route.", human="<image>\nWhich?", min_pixels=1, max_pixels=2, labels=("a", "b")
    )
    silent = activated_card(card, ["Which?", "Which?"], OPENING)
    assert silent == card.model_copy(update={"invocation": OPENING})
    spoken = activated_card(card, ["Which?", "Open the day."], OPENING)
    assert (spoken.system, spoken.human, spoken.invocation) == (None, "<image>\n{prompt}", OPENING)
    worded = card.model_copy(update={"human": "<image>\nWhich for: {prompt}"})
    assert activated_card(worded, ["Click."], OPENING) == spoken
    with pytest.raises(InputError, match="no tokens before an answer"):
        activated_card(card, [], ())
