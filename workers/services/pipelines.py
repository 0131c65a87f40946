"""Pipelines: runs that depend on each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from adapters.selectors import get_adapter
from datasets_app.errors import InputError
from datasets_app.names import check_name
from workers.models import Pipeline, Run
from workers.services.launching import cancel, launch, new_name


def launch_router_pipeline(
    name: str | None = None,
    *,
    adapters: Sequence[str],
    negatives: Sequence[str] = (),
    router: str = "router",
    samples_per_class: int = 200,
    seed: int = 0,
    train: dict[str, Any] | None = None,
    user: User | None = None,
) -> Pipeline:
    """Generate a routing dataset, preprocess it, train the router and evaluate it.

    A pipeline of that name goes on: what has succeeded is reused, what failed or was cancelled is launched again.
    """
    dataset = check_name(name, "pipeline name") if name else new_name(Run.Kind.GENERATE_DATASET)
    steps: list[tuple[str, str, dict[str, Any]]] = [
        (
            Run.Kind.GENERATE_DATASET,
            dataset,
            {
                "adapters": list(adapters),
                "negatives": list(negatives),
                "samples_per_class": samples_per_class,
                "seed": seed,
            },
        ),
        (Run.Kind.PREPROCESS, f"{dataset}-preprocess", {"dataset": dataset}),
        (Run.Kind.TRAIN, f"{dataset}-train", {"dataset": dataset, "adapter": router, "config": train or {}}),
        (Run.Kind.EVALUATE, f"{dataset}-evaluate", {"run": f"{dataset}-train", "dataset": dataset}),
    ]
    return _launch_steps(dataset, steps, user)


def launch_expert_pipeline(
    adapter: str,
    *,
    train: dict[str, Any] | None = None,
    name: str | None = None,
    user: User | None = None,
) -> Pipeline:
    """Preprocess the expert's source dataset, train the expert and evaluate it; a known name goes on likewise."""
    source = get_adapter(adapter).source
    if source is None:
        raise InputError(f"Adapter {adapter!r} has no source dataset to train on.")
    stem = check_name(name, "pipeline name") if name else f"{adapter}-{new_name(Run.Kind.TRAIN)}"
    steps: list[tuple[str, str, dict[str, Any]]] = [
        (Run.Kind.PREPROCESS, f"{stem}-preprocess", {"dataset": source.name}),
        (
            Run.Kind.TRAIN,
            f"{stem}-train",
            {"dataset": source.name, "adapter": adapter, "config": train or {}},
        ),
        (Run.Kind.EVALUATE, f"{stem}-evaluate", {"run": f"{stem}-train", "dataset": source.name}),
    ]
    return _launch_steps(stem, steps, user)


def _launch_steps(name: str, steps: list[tuple[str, str, dict[str, Any]]], user: User | None) -> Pipeline:
    with transaction.atomic():
        pipeline, _ = Pipeline.objects.get_or_create(name=name, defaults={"created_by": user})
        for step, (kind, run_name, params) in enumerate(steps):
            launch(kind, params, name=run_name, user=user, pipeline=pipeline, step=step)
    return pipeline


def cancel_pipeline(pipeline: Pipeline) -> Pipeline:
    """Cancel every run of the pipeline that is not over, last first."""
    for run in pipeline.runs.order_by("-step"):
        cancel(run)
    return pipeline
