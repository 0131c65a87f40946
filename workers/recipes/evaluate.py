"""Evaluate a router, an expert, or a stack of both, on held-out samples and by the code that serves.

Writes `report.json` and `report.html`. Every figure carries its number of samples and a 95% interval, and every
sample its own result, so that two routers can be compared on the same samples afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from adapters.backbone.spec import TINY_BASE, BaseSpec, pick_dtype
from adapters.card import AdapterCard
from adapters.store import Store
from datasets_app.errors import InputError
from datasets_app.names import check_name
from workers.recipes.device import pick_device
from workers.recipes.evaluation.samples import Questions, read_questions
from workers.recipes.evaluation.trained import leave_out_trained
from workers.recipes.job import Job, RecipeSpec

if TYPE_CHECKING:
    from inference.engines.types import Request
    from workers.recipes.evaluation.outcomes import Outcome


STEPS = ("evaluate",)


class Spec(RecipeSpec):
    """Who is asked what: `router` alone, `expert` alone, or `router` and `experts` as a stack."""

    data: Path = Field(description="folder that preprocess made, or a routing dataset")
    router: Path | None = Field(None, description="folder of the router's adapter")
    expert: Path | None = Field(None, description="folder of an expert's adapter, to evaluate it alone")
    experts: dict[str, Path] = Field({}, description="folders of the stack's experts by name")
    trained_on: tuple[Path, ...] = Field((), description="what preprocess made and the subject learnt: left out")
    base: str = Field(str(TINY_BASE), description="base model: a folder or a hub id")
    base_revision: str | None = Field(None, description="commit of a base model from the hub")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="auto: as it was trained")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; default: torch's own choice")
    split: Literal["train", "val", "eval"] = Field("eval", description="split to ask about")
    max_samples: int | None = Field(None, ge=1, description="samples at most, drawn evenly")
    batch_size: int = Field(16, ge=1, le=1024, description="samples in one forward pass")
    max_tokens: int = Field(256, ge=1, le=4096, description="tokens of an expert's answer at most")
    latency_samples: int = Field(20, ge=0, le=10_000, description="samples asked one at a time for latency")
    note: str = Field("", max_length=2000, description="remark that the report shows at the top")

    @model_validator(mode="after")
    def _one_subject(self) -> Spec:
        if (self.router is None) == (self.expert is None):
            raise ValueError("give either a router or an expert")
        if self.experts and self.router is None:
            raise ValueError("experts need their router")
        for name in self.experts:
            check_name(name, "expert")
        return self

    @property
    def subject(self) -> Path:
        """Folder of the adapter that is evaluated, a stack's router."""
        subject = self.router or self.expert
        assert subject is not None  # noqa: S101 - the validator has seen to it
        return subject

    @property
    def kind(self) -> Literal["router", "expert", "stack"]:
        """What the subject is."""
        if self.expert is not None:
            return "expert"
        return "stack" if self.experts else "router"


def run(spec: Spec, job: Job) -> dict[str, Any]:
    """Write the report into `job.out` and return it.

    InputError if an adapter is broken or belongs to another base, or the data does not fit the subject.
    """
    from workers.recipes.evaluation.page import write_page

    questions = read_questions(spec.data, spec.split, spec.max_samples)
    if (questions.kind == "expert") != (spec.kind == "expert"):
        raise InputError(f"data: {str(spec.data)!r} has {questions.kind} samples, the subject is of kind {spec.kind}.")
    questions, left_out = leave_out_trained(questions, spec.trained_on)
    report, outcomes = _examine(spec, questions, job)
    report["left_out"] = left_out
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    (job.out / "report.json").write_text(text, encoding="utf-8")
    write_page(report, outcomes, job.out / "report.html")
    return report


def _examine(spec: Spec, questions: Questions, job: Job) -> tuple[dict[str, Any], list[Outcome]]:
    """Load the engine, ask, and put the report together."""
    import torch

    from inference.engines.in_process import InProcessEngine, Limits
    from inference.engines.types import AdapterRef, StackSpec
    from workers.recipes.evaluation.figures import latency_figures, report
    from workers.recipes.evaluation.outcomes import Examiner

    if spec.threads:
        torch.set_num_threads(spec.threads)
    store = Store(job.work / "adapters")
    subject = AdapterRef(spec.kind, store.add(spec.subject).digest)
    experts = tuple(AdapterRef(name, store.add(path).digest) for name, path in sorted(spec.experts.items()))
    card = AdapterCard.read(store.path(subject.digest))
    device = pick_device(spec.device)
    base = BaseSpec(spec.base, spec.base_revision)
    dtype = card.dtype if spec.dtype == "auto" and card.dtype else pick_dtype(spec.dtype, device, base)
    base = replace(base, device=device, dtype=dtype)
    engine = InProcessEngine.load(base, store.path, Limits(batch=spec.batch_size))
    try:
        examiner = Examiner(engine, questions, spec.batch_size, spec.max_tokens)
        stack = StackSpec(engine.base, subject, experts)
        if spec.kind == "stack":
            engine.deploy(stack)
        asking = {
            "router": lambda: examiner.router(subject),
            "expert": lambda: examiner.expert(subject),
            "stack": lambda: examiner.stack(stack),
        }
        outcomes = []
        for outcome in asking[spec.kind]():
            outcomes.append(outcome)
            job.progress("evaluate", len(outcomes), len(questions.samples))
        answering: dict[str, Callable[[Request], object]] = {
            "router": lambda request: engine.route_scores_many(subject, [request]),
            "expert": lambda request: engine.generate_many(subject, [request]),
            "stack": engine.infer,
        }
        latency = examiner.latency(answering[spec.kind], stack.digest, spec.latency_samples)
    finally:
        engine.close()
    about = {
        "kind": spec.kind,
        "note": spec.note,
        "data": {"dataset": questions.dataset, "split": spec.split, "n": len(outcomes)},
        "subject": {
            "base": engine.base,
            "expert" if spec.kind == "expert" else "router": subject.digest,
            "experts": {expert.name: expert.digest for expert in experts},
        },
    }
    every_label = tuple(dict.fromkeys((*card.labels, *questions.labels)))
    return about | report(spec.kind, outcomes, every_label) | {"latency_ms": latency_figures(latency)}, outcomes


if __name__ == "__main__":
    from workers.recipes.cli import main

    raise SystemExit(main("evaluate"))
