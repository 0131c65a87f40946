"""Whether what serves is still as good as when it went live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from adapters.models import Evaluation, Stack
from adapters.promotion.paired import Outcome, compare
from adapters.promotion.samples import routed_right, shared
from adapters.promotion.statistics import fisher
from adapters.selectors import baseline_of, champion
from datasets_app.errors import InputError
from workers.kinds.generate_dataset import Params as DrawParams
from workers.kinds.generate_dataset import check_enough, classes
from workers.models import Pipeline, Run
from workers.services.lineage import Lineage, lineage_of
from workers.services.pipelines import Plan, Step, asked, launch_plan


def reevaluate(
    *,
    fresh_samples: int | None = None,
    rollback: bool = False,
    pipeline: str | None = None,
    seed: int | None = None,
    backend: str | None = None,
    user: User | None = None,
) -> Pipeline:
    """Evaluate the serving stack again: on the held-out set it was promoted on, and on `fresh_samples` of each class
    newly drawn from the held-out side of its sources as they are now. By default as many as were held out when its
    router was made, none of a router that was made elsewhere: which screens that was trained on, nobody knows here.

    A significant fall is an alert; `rollback` puts the stack live again that served before. InputError if no router
    is live, or there is nothing to evaluate it on.
    """
    serving = champion()
    if serving is None:
        raise InputError("No router is live yet: there is none to evaluate.")
    held_out, lineage = _held_out(baseline_of(serving)), lineage_of(serving.router)
    number = lineage.held_out if fresh_samples is None else fresh_samples
    if not held_out and not number:
        raise InputError(f"{serving.router} was promoted without an evaluation: ask for fresh samples.")
    draw_seed = int(timezone.now().timestamp()) if seed is None else seed
    if number:
        params = DrawParams.model_validate(_drawn(lineage, number, draw_seed))
        check_enough(classes(params, {}), number, "fresh_samples")

    def steps(stem: str) -> list[Step]:
        return held_out + (_fresh(lineage, stem, number, draw_seed) if number else [])

    wish = asked(stack=serving.digest, rollback=rollback, fresh_samples=fresh_samples, seed=seed)
    plan = Plan(Pipeline.Kind.REEVALUATE, pipeline, "reevaluate", steps, wish=wish, backend=backend)
    return launch_plan(plan, user)


def _held_out(baseline: Evaluation | None) -> list[Step]:
    """The very samples of the promotion, asked again."""
    run = baseline and Run.objects.filter(evaluation=baseline).first()
    if not run:
        return []
    params = {"serving": True, "dataset": run.params["dataset"], "stack": run.params["stack"]}
    if run.params.get("max_samples"):
        params["max_samples"] = run.params["max_samples"]
    return [Step(Run.Kind.EVALUATE, "-held-out", params, reuse=False)]


def _fresh(lineage: Lineage, stem: str, samples: int, seed: int) -> list[Step]:
    return [
        Step(Run.Kind.GENERATE_DATASET, "-fresh", _drawn(lineage, samples, seed)),
        Step(Run.Kind.PREPROCESS, "-fresh-preprocess", {"dataset": f"{stem}-fresh"}),
        Step(Run.Kind.EVALUATE, "-fresh-evaluate", {"serving": True, "dataset": f"{stem}-fresh"}, reuse=False),
    ]


def _drawn(lineage: Lineage, samples: int, seed: int) -> dict[str, Any]:
    drawn = {"samples_per_class": samples, "held_out_only": True, "draw_seed": seed % 2**31}
    return {"adapters": list(lineage.labels), **lineage.drawn, **drawn}


@dataclass(frozen=True)
class Alarm:
    """What re-evaluation found."""

    is_alert: bool
    words: str


def alarm(pipeline: Pipeline, evaluations: list[Evaluation]) -> Alarm:
    """Compare with the figure at promotion, by a test: paired on the same samples, unpaired on fresh ones."""
    stack = Stack.objects.filter(digest=pipeline.wish["stack"]).first()
    baseline = baseline_of(stack) if stack else None
    if stack is None or baseline is None or baseline in evaluations:
        return Alarm(False, f"{evaluations[0]}; there is no earlier figure to compare with.")
    findings = [fall(baseline, now) for now in evaluations if now.version_id == stack.router_id]
    words = " ".join(words for _, words in findings) or "Another router went live meanwhile."
    return Alarm(any(bad for bad, _ in findings), words)


def fall(then: Evaluation, now: Evaluation) -> tuple[bool, str]:
    """Whether `now` is significantly below `then`, and that in words."""
    alpha = settings.REEVALUATION_ALPHA
    figures = f"{now.accuracy:.1%} of {now.samples} samples, at promotion {then.accuracy:.1%} of {then.samples}"
    same = shared(routed_right(then), routed_right(now))
    if then.dataset_digest != now.dataset_digest or not same[0]:
        right = [round(row.accuracy * row.samples) for row in (then, now)]
        p = fisher(right[0], then.samples, right[1], now.samples)
        words = f"On fresh samples {figures} (exact one-sided Fisher test, p = {p:.3g})"
        return p <= alpha, words + (": a significant fall." if p <= alpha else ": no significant fall.")
    verdict = compare(*same, alpha)
    is_worse = verdict.outcome == Outcome.WORSE
    words = f"On the held-out samples {figures} (exact McNemar test, p = {verdict.p:.3g})"
    return is_worse, words + (": a significant fall." if is_worse else ": no significant fall.")
