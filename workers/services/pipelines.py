"""Pipelines: runs that depend on each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from adapters.selectors import get_adapter
from datasets_app.errors import InputError
from datasets_app.names import check_name
from datasets_app.strict_json import check_json
from workers.kinds import HERE
from workers.kinds.preprocess import check_pixels
from workers.kinds.train import check_config
from workers.models import Pipeline, Run
from workers.services.launching import TRIES, NameTaken, cancel, launch, numbered, relaunch
from workers.services.moves import FINE, want_end
from workers.states import UNSUCCESSFUL, Status


@dataclass(frozen=True)
class Step:
    """One run of a pipeline; its own name is the pipeline's with `suffix`. `reuse`: an equal run's result will do."""

    kind: str
    suffix: str
    params: dict[str, Any]
    reuse: bool = True


@dataclass(frozen=True)
class Plan:
    """A pipeline to launch, called `name`, or by `stem` and the time. `steps` are made for the name that it gets, and
    run on `backend` (None: the default), but for those that run on one alone.

    Where they depend on what serves, too, `wish` is what was asked for.
    """

    kind: Pipeline.Kind
    name: str | None
    stem: str
    steps: Callable[[str], list[Step]]
    live: str = Pipeline.Live.NEVER
    wish: dict[str, Any] | None = None
    backend: str | None = None


def launch_router_pipeline(
    name: str | None = None,
    *,
    adapters: Sequence[str],
    negatives: Sequence[str] = (),
    router: str = "router",
    samples_per_class: int | None = None,
    seed: int = 0,
    max_pixels: int | None = None,
    train: dict[str, Any] | None = None,
    backend: str | None = None,
    user: User | None = None,
) -> Pipeline:
    """Generate a routing dataset, preprocess it, train the router and evaluate it.

    A pipeline of that name goes on: what has succeeded is kept, what failed or was cancelled is launched again.
    """
    check_pixels(max_pixels)
    check_config(train or {}, "train")
    drawn = {
        "adapters": list(adapters),
        "negatives": list(negatives),
        "samples_per_class": samples_per_class,
        "seed": seed,
    }

    def steps(stem: str) -> list[Step]:
        return router_steps(stem, drawn, router, train or {}, max_pixels)

    return launch_plan(Plan(Pipeline.Kind.ROUTER, name, "routing", steps, backend=backend), user)


def router_steps(
    stem: str,
    drawn: dict[str, Any],
    router: str,
    train: dict[str, Any],
    max_pixels: int | None = None,
    *,
    stack: bool = False,
) -> list[Step]:
    """From the parameters of a routing dataset to an evaluated router, which sees at most so many pixels of a
    screenshot (None: the base's); `stack` lets the experts answer, too."""
    subject = {"run": f"{stem}-train", "dataset": stem, **({"stack": True} if stack else {})}
    return [
        Step(Run.Kind.GENERATE_DATASET, "", drawn),
        Step(Run.Kind.PREPROCESS, "-preprocess", {"dataset": stem, **_most(max_pixels)}),
        Step(Run.Kind.TRAIN, "-train", {"dataset": stem, "adapter": router, "config": train}),
        Step(Run.Kind.EVALUATE, "-evaluate", subject),
    ]


def launch_expert_pipeline(
    adapter: str,
    *,
    train: dict[str, Any] | None = None,
    name: str | None = None,
    backend: str | None = None,
    user: User | None = None,
) -> Pipeline:
    """Preprocess the expert's source dataset, train the expert and evaluate it; a known name goes on likewise."""
    check_config(train or {}, "train")
    source = get_adapter(adapter).source
    if source is None:
        raise InputError(f"Adapter {adapter!r} has no source dataset to train on.")
    learnt = source.name

    def steps(stem: str) -> list[Step]:
        subject = {"run": f"{stem}-train", "dataset": learnt}
        return [*expert_steps(stem, "", adapter, learnt, train or {}), Step(Run.Kind.EVALUATE, "-evaluate", subject)]

    return launch_plan(Plan(Pipeline.Kind.EXPERT, name, f"train-{adapter}", steps, backend=backend), user)


def expert_steps(
    stem: str,
    part: str,
    adapter: str,
    source: str,
    train: dict[str, Any],
    drawn: dict[str, Any] | None = None,
    max_pixels: int | None = None,
) -> list[Step]:
    """From a source dataset, split as the routing dataset with the parameters `drawn`, to a trained expert; `part` goes
    before the steps' names."""
    sides = {key: value for key, value in (drawn or {}).items() if key in ("seed", "split")}
    return [
        Step(Run.Kind.PREPROCESS, f"{part}-preprocess", {"dataset": source, **sides, **_most(max_pixels)}),
        Step(Run.Kind.TRAIN, f"{part}-train", {"dataset": source, "adapter": adapter, "config": train}),
    ]


def _most(pixels: int | None) -> dict[str, Any]:
    return {} if pixels is None else {"max_pixels": pixels}


def fetch_steps(fetches: Sequence[dict[str, Any]]) -> list[Step]:
    """What lies on volumes is brought here; its content is not known before, so nothing is reused."""
    return [Step(Run.Kind.FETCH, f"-fetch-{number}", params, reuse=False) for number, params in enumerate(fetches, 1)]


def asked(**given: Any) -> dict[str, Any]:
    """What was given of a wish, in JSON, so that it equals the same wish as a row holds it."""
    stated = {key: value for key, value in given.items() if value is not None}
    check_json(stated)
    return dict(json.loads(json.dumps(stated)))


def fulfilled(kind: Pipeline.Kind, name: str, live: str, wish: dict[str, Any]) -> Pipeline | None:
    """The pipeline of that name, if it has succeeded with this very wish, whatever serves by now."""
    pipeline = Pipeline.objects.filter(name=name, kind=kind, live=live, outcome=Status.SUCCEEDED).first()
    return pipeline if pipeline is not None and pipeline.wish == wish else None


def launch_plan(plan: Plan, user: User | None) -> Pipeline:
    """Record the pipeline and queue its runs; one of that name, kind and wish goes on, and stays as it is once it has
    succeeded. Without a name it is always new."""
    if plan.name:
        return _launch(plan, check_name(plan.name, "pipeline name"), user)
    stem = f"{plan.stem[:24].rstrip('._-')}_{timezone.now():%Y%m%d_%H%M%S}"
    for name in islice(numbered(stem), TRIES):
        with suppress(NameTaken):
            return _launch(plan, name, user)
    raise RuntimeError(f"No name for a pipeline like {stem} could be taken.")


def _launch(plan: Plan, name: str, user: User | None) -> Pipeline:
    asked_for = {"kind": plan.kind, "live": plan.live, "wish": plan.wish or {}}
    with transaction.atomic():
        pipeline, created = Pipeline.objects.get_or_create(name=name, defaults={**asked_for, "created_by": user})
        found = {key: getattr(pipeline, key) for key in asked_for}
        if not created and (not plan.name or found != asked_for):
            raise NameTaken(f"Pipeline {name!r} exists as another one ({pipeline.kind}): choose another name.")
        if plan.wish is not None and pipeline.outcome == Status.SUCCEEDED:
            return pipeline
        before = set(pipeline.runs.values_list("pk", flat=True))
        runs = [
            launch(
                step.kind,
                step.params,
                name=f"{name}{step.suffix}",
                backend=HERE.get(step.kind, plan.backend),
                user=user,
                pipeline=pipeline,
                step=number,
                reuse=step.reuse,
            )
            for number, step in enumerate(plan.steps(name))
        ]
        if not created and any(run.pk not in before for run in runs):
            _reopen(pipeline)
    return pipeline


def retry_pipeline(pipeline: Pipeline) -> Pipeline:
    """Go on from the first step that failed or was cancelled; what has succeeded is kept.

    InputError if the pipeline goes on, or has nothing to try again.
    """
    with transaction.atomic():
        steps = pipeline.steps
        if any(not run.is_over for run in steps):
            raise InputError(f"Pipeline {pipeline.name!r} is {pipeline.status}: cancel it first, or wait.")
        again = [run for run in steps if run.status in UNSUCCESSFUL]
        if not again and pipeline.outcome not in UNSUCCESSFUL:
            raise InputError(f"Pipeline {pipeline.name!r} is {pipeline.status}: there is nothing to try again.")
        for run in again:
            relaunch(run)
        _reopen(pipeline)
    return pipeline


def _reopen(pipeline: Pipeline) -> None:
    """Take the outcome back, and with it whatever somebody is concluding at this moment."""
    again: dict[str, Any] = {"outcome": "", "verdict": "", "finished_at": None, "cancel_requested_at": None}
    again |= {**FINE, "lease_until": None}
    Pipeline.objects.filter(pk=pipeline.pk).update(version=F("version") + 1, **again)
    pipeline.refresh_from_db()


def cancel_pipeline(pipeline: Pipeline) -> Pipeline:
    """Cancel the pipeline with every run of it that is not over, last first; whatever they come to, nothing of it goes
    live any more. One that is over stays as it is.

    The wish is written down for all of them or none; rounds go on from there whatever happens to the caller.
    """
    wanted = {"cancel_requested_at": timezone.now(), "lease_until": None}
    with transaction.atomic():
        Pipeline.objects.filter(pk=pipeline.pk, outcome="").update(version=F("version") + 1, **wanted)
        want_end(Run.objects.filter(pipeline=pipeline))
    for run in pipeline.runs.order_by("-step"):
        cancel(run)
    pipeline.refresh_from_db()
    return pipeline
