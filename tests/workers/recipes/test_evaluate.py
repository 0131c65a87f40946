"""Evaluation: figures against counts by hand, the page, and real adapters through the engine."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters.card import AdapterCard
from datasets_app.errors import InputError
from inference.engines.types import AdapterRef, Decision, Request, StackedResult, StackSpec
from inference.routing.metrics import wilson
from tests.workers.recipes.conftest import SEED
from tests.workers.recipes.recording import RecordingJob
from workers.recipes import evaluate, generate_dataset, preprocess, train
from workers.recipes.evaluate import Spec
from workers.recipes.evaluation.figures import report
from workers.recipes.evaluation.outcomes import Examiner, Outcome
from workers.recipes.evaluation.page import write_page
from workers.recipes.evaluation.samples import Questions, Sample, read_questions
from workers.recipes.evaluation.trained import leave_out_trained

pytestmark = pytest.mark.long

LABELS = ("cal", "pro", "none")
CALL = '<tool_call>\n{"name": "click", "arguments": {"day": 3}}\n</tool_call>'
OTHER = CALL.replace("3", "4")
EXPERTS = {name: AdapterRef(name, f"sha256:{name}") for name in ("cal", "pro")}
STACK = StackSpec("base", AdapterRef("router", "sha256:router"), tuple(EXPERTS.values()))

# id: right label, right answer, routed to, what comes out end to end, what the right expert says
SCRIPT: dict[str, tuple[str, str | None, str, str, str]] = {
    "s0": ("cal", CALL, "cal", CALL, CALL),  # all right
    "s1": ("cal", CALL, "cal", OTHER, OTHER),  # valid, not exact
    "s2": ("cal", CALL, "cal", "<tool_call>{", "<tool_call>{"),  # not valid
    "s3": ("cal", CALL, "pro", OTHER, CALL),  # misrouted, the right expert would be exact
    "s4": ("pro", CALL, "none", "", OTHER),  # refused, the right expert would be wrong
    "s5": ("none", "No expert.", "none", "", ""),  # rightly refused
    "s6": ("none", "No expert.", "cal", CALL, ""),  # wrongly answered
    "s7": ("pro", None, "pro", CALL, ""),  # routed rightly, the right answer is not known
}


class ScriptedEngine:
    """Answers from SCRIPT by the request's prompt, which is the sample's id."""

    def infer_many(self, requests: Sequence[Request]) -> list[StackedResult]:
        return [self.infer(request) for request in requests]

    def infer(self, request: Request) -> StackedResult:
        _, _, routed, text, _ = SCRIPT[request.prompt]
        chances = {label: 0.8 if label == routed else 0.1 for label in LABELS}
        decision = Decision(routed, EXPERTS.get(routed), chances, STACK.router, STACK.digest)
        return StackedResult(decision, text, None, 1, "stop", {})

    def generate_many(self, adapter: AdapterRef, requests: Sequence[Request]) -> list[str]:
        assert all(SCRIPT[request.prompt][0] == adapter.name for request in requests)
        return [SCRIPT[request.prompt][4] for request in requests]

    def route_scores_many(self, router: AdapterRef, requests: Sequence[Request]) -> list[dict[str, float]]:
        return [self.infer(request).decision.probabilities for request in requests]


@pytest.fixture
def examiner(tiny_png: bytes) -> Examiner:
    """Asks the scripted engine, three samples at a time."""
    samples = [Sample(name, name, label, answer, lambda: tiny_png) for name, (label, answer, *_) in SCRIPT.items()]
    engine: Any = ScriptedEngine()
    return Examiner(engine, Questions("router", LABELS, "none", "sha256:data", samples), 3, 99)


@pytest.fixture
def tiny_png(screens: dict[str, Path]) -> bytes:
    """Some screenshot."""
    return next((screens["calendar"] / "images").iterdir()).read_bytes()


def counts(figure: dict[str, Any]) -> tuple[int, int]:
    assert (figure["ci_low"], figure["ci_high"]) == wilson(figure["k"], figure["n"])
    return figure["k"], figure["n"]


def test_a_stacks_figures_by_hand(examiner: Examiner) -> None:
    made = report("stack", list(examiner.stack(STACK)), LABELS)
    routing = made["routing"]
    assert routing["confusion"]["matrix"] == [[3, 1, 0], [0, 1, 1], [1, 0, 1]]
    assert counts(routing["accuracy"]) == (5, 8)
    assert {label: counts(recall) for label, recall in routing["recall"].items()} == {
        "cal": (3, 4), "pro": (1, 2), "none": (1, 2),
    }  # fmt: skip
    # F1: cal 6/(4+4), pro 2/(2+2), none 2/(2+2)
    assert routing["macro_f1"]["value"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert routing["macro_f1"]["ci_low"] < routing["macro_f1"]["value"] < routing["macro_f1"]["ci_high"]
    assert counts(made["end_to_end"]["valid"]) == (4, 7)  # s0 s1 s3 s5
    assert counts(made["end_to_end"]["exact"]) == (2, 7)  # s0 s5
    assert counts(made["experts"]["cal"]["exact"]) == (2, 4)  # s0 s3
    assert counts(made["experts"]["cal"]["valid"]) == (3, 4)  # s0 s1 s3
    assert counts(made["experts"]["pro"]["exact"]) == (0, 1)
    assert made["headline"] == {"metric": "accuracy", **routing["accuracy"]}
    assert [mistake["id"] for mistake in made["mistakes"]] == ["s1", "s2", "s3", "s4", "s6"]
    assert [(sample["id"], sample["correct"]) for sample in made["samples"]] == [
        (name, script[0] == script[2]) for name, script in SCRIPT.items()
    ]


def test_a_routers_figures_are_the_stacks(examiner: Examiner) -> None:
    alone = report("router", list(examiner.router(STACK.router)), LABELS)
    stacked = report("stack", list(examiner.stack(STACK)), LABELS)
    assert alone["routing"] == stacked["routing"]
    assert "end_to_end" not in alone
    assert alone["mistakes"][0]["probabilities"] == {"cal": 0.1, "pro": 0.8, "none": 0.1}


def test_a_label_that_the_router_does_not_know_counts_as_wrong(examiner: Examiner) -> None:
    made = report("router", list(examiner.router(STACK.router)), (*LABELS, "new"))
    assert made["routing"]["recall"]["new"]["n"] == 0
    assert made["routing"]["macro_f1"]["value"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)


def test_latency_is_measured_one_by_one_after_a_warm_up(examiner: Examiner) -> None:
    asked: list[str] = []
    assert len(examiner.latency(lambda request: asked.append(request.prompt), "", 3)) == 3
    assert asked == ["s0", "s0", "s1", "s2"]
    assert examiner.latency(lambda request: None, "", 0) == []


def test_the_page_escapes_and_stands_alone(tmp_path: Path, tiny_png: bytes) -> None:
    hostile = "<script>alert(1)</script>"
    outcome = Outcome(
        Sample(hostile, hostile, "cal", hostile, lambda: tiny_png), "pro", {"cal": 0.2, "pro": 0.8, hostile: 0.0}
    )
    about = {
        "kind": "router", "note": hostile, "data": {"dataset": "d", "split": "eval", "n": 1},
        "subject": {"base": "b", "experts": {hostile: "e"}}, "latency_ms": {"n": 0},
    }  # fmt: skip
    write_page(about | report("router", [outcome], ("cal", "pro", hostile)), [outcome], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page) == []
    assert "routed to pro (80.0%)" in page


def test_the_same_samples_for_everybody(prepared_folder: Path, routing_folder: Path) -> None:
    some = read_questions(prepared_folder, "eval", 10)
    again = read_questions(routing_folder, "eval", 10)
    assert [sample.id for sample in some.samples] == [sample.id for sample in again.samples]
    assert some.dataset == again.dataset
    for one, other in zip(some.samples, again.samples, strict=True):
        assert (one.words, one.label, one.answer, one.image()) == (
            other.words,
            other.label,
            other.answer,
            other.image(),
        )


def test_a_trained_router_is_evaluated(trained_router: RecordingJob, prepared_folder: Path, tmp_path: Path) -> None:
    job = RecordingJob(tmp_path)
    made = evaluate.run(
        Spec(data=prepared_folder, router=trained_router.out, threads=1, latency_samples=2, note="Drawn screens."), job
    )
    assert made == json.loads((job.out / "report.json").read_text())
    assert made["headline"]["n"] == 48 == len(made["samples"])
    assert made["headline"]["k"] == sum(sample["correct"] for sample in made["samples"])
    assert made["headline"]["value"] >= 0.9
    assert made["latency_ms"]["n"] == 2
    assert "Drawn screens." in (job.out / "report.html").read_text()
    assert job.reports[-1][:3] == ("evaluate", 48, 48)


def test_samples_that_a_router_was_trained_on_are_left_out_by_their_content(
    screens: dict[str, Path], prepared_folder: Path, tmp_path: Path
) -> None:
    """Also of a dataset of another seed, where they have other names."""
    job = RecordingJob(tmp_path / "drawn")
    sources = [{"label": kind, "path": path, "negative": kind == "other"} for kind, path in screens.items()]
    spec = {"sources": sources, "samples_per_class": 10, "split": [0, 0, 1], "seed": 7}
    generate_dataset.run(generate_dataset.Spec.model_validate(spec), job)
    asked = read_questions(job.out, "eval", None)
    trained = [sample for side in ("train", "val") for sample in read_questions(prepared_folder, side, None).samples]
    known = {sample.image() for sample in trained}
    left, count = leave_out_trained(asked, [prepared_folder])
    assert count == sum(sample.image() in known for sample in asked.samples) > 0
    assert len(left.samples) == len(asked.samples) - count
    assert not any(sample.image() in known for sample in left.samples)
    assert leave_out_trained(asked, []) == (asked, 0)
    held_out = read_questions(prepared_folder, "eval", None)
    assert leave_out_trained(held_out, [prepared_folder]) == (held_out, 0)
    with pytest.raises(InputError, match="trained on every sample"):
        leave_out_trained(read_questions(prepared_folder, "train", None), [prepared_folder])


def test_a_report_says_how_many_samples_were_left_out(
    trained_router: RecordingJob, prepared_folder: Path, screens: dict[str, Path], tmp_path: Path
) -> None:
    learnt, job = RecordingJob(tmp_path / "learnt"), RecordingJob(tmp_path / "job")
    preprocess.run(preprocess.Spec(dataset=screens["calendar"], seed=SEED + 1), learnt)
    asked: dict[str, Any] = {"data": prepared_folder, "router": trained_router.out, "threads": 1, "latency_samples": 0}
    made = evaluate.run(Spec(**asked, trained_on=(learnt.out,)), job)
    assert made["left_out"] > 0
    assert made["headline"]["n"] == 48 - made["left_out"]
    assert f"{made['left_out']} more that the adapter was trained on" in (job.out / "report.html").read_text()


def test_a_stack_and_an_expert_are_evaluated(
    trained_router: RecordingJob, prepared_folder: Path, expert_data: Path, tmp_path: Path
) -> None:
    expert = RecordingJob(tmp_path / "expert")
    train.run(train.Spec(data=expert_data, max_steps=2, batch_size=4, val_samples=4, rank=2, threads=1), expert)
    assert AdapterCard.read(expert.out / "final").kind == "expert"
    experts = {"calendar": expert.out, "provider-select": expert.out}
    common: dict[str, Any] = {"threads": 1, "latency_samples": 0, "max_tokens": 8, "max_samples": 12}
    made = evaluate.run(
        Spec(data=prepared_folder, router=trained_router.out, experts=experts, **common),
        RecordingJob(tmp_path / "stack"),
    )
    assert made["end_to_end"]["exact"]["n"] == 12
    assert sum(figures["exact"]["n"] for figures in made["experts"].values()) == sum(
        sample["label"] != "none" for sample in made["samples"]
    )
    alone = evaluate.run(Spec(data=expert_data, expert=expert.out, **common), RecordingJob(tmp_path / "alone"))
    assert alone["headline"]["metric"] == "exact"
    assert alone["answers"]["valid"]["n"] == 12
    with pytest.raises(InputError, match="has router samples, the subject is of kind expert"):
        evaluate.run(Spec(data=prepared_folder, expert=expert.out), RecordingJob(tmp_path / "wrong"))


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"router": "a", "expert": "b"}, {"expert": "b", "experts": {"x": "c"}},
        {"router": "a", "experts": {"..": "c"}}, {"router": "a", "split": "test"}, {"router": "a", "max_samples": 0},
    ],
)  # fmt: skip
def test_a_spec_that_names_no_one_subject(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Spec.model_validate({"data": "x"} | wrong)


def test_an_empty_split_is_refused(tmp_path: Path, routing_folder: Path) -> None:
    with pytest.raises(InputError, match="neither a prepared dataset nor a routing dataset"):
        read_questions(tmp_path, "eval", None)
