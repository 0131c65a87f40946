"""Reads over runs."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet

from adapters.models import AdapterVersion
from datasets_app.errors import InputError
from datasets_app.models import PreparedDataset, RoutingDataset, SourceDataset
from datasets_app.selectors import get_dataset, get_prepared, without_json
from workers.models import Attempt, Pipeline, Run
from workers.states import UNSUCCESSFUL, Status


def listed(runs: QuerySet[Run]) -> QuerySet[Run]:
    """The runs, with those whose results they took, as lists show them."""
    return without_json(runs.select_related("reused_from"), "params", "inputs", "progress")


def with_runs(pipelines: QuerySet[Pipeline]) -> QuerySet[Pipeline]:
    """The pipelines with their runs, which are read together, as `listed` gives them."""
    return pipelines.prefetch_related(Prefetch("runs", listed(Run.objects.select_related("created_by"))))


def get_run(name: str) -> Run:
    """The newest run called `name`; InputError if there is none."""
    run = Run.objects.filter(name=name).order_by("-id").first()
    if run is None:
        raise InputError(f"There is no run {name!r}.")
    return run


def get_work(name: str) -> Run | Pipeline:
    """What is under way as `name`, the pipeline before its run of that name, or else what was last called so.

    InputError if there is neither a run nor a pipeline.
    """
    pipeline = Pipeline.objects.filter(name=name).first()
    run = Run.objects.filter(name=name).order_by("-id").first()
    if pipeline is not None and (run is None or run.pipeline_id == pipeline.pk or not pipeline.is_over):
        return pipeline
    if run is None:
        raise InputError(f"There is neither a run nor a pipeline {name!r}.")
    return run


def newest_attempt(run: Run) -> Attempt | None:
    """The run's newest attempt; None if the run has moved since it was read, so that an earlier row is never taken
    together with a later attempt."""
    return run.attempts.filter(run__version=run.version).order_by("-number").first()


def with_newest_attempt(runs: QuerySet[Run]) -> list[Attempt]:
    """The newest attempt of each run, with the run, without what may be some MB, as of the same moment: an earlier row
    is never taken together with a later attempt."""
    attempts = Attempt.objects.filter(run__in=runs).select_related("run").order_by("number")
    light = attempts.defer("run__spec", "run__summary")
    return list({attempt.run_id: attempt for attempt in light}.values())


def launchable(queued: QuerySet[Run]) -> QuerySet[Run]:
    """Those of the queued runs whose turn it is: the step before has succeeded, if there is one."""
    return queued.filter(_is_first() | Exists(_step_before().filter(status=Status.SUCCEEDED)))


def never_launched(queued: QuerySet[Run]) -> QuerySet[Run]:
    """Those that end without a job: somebody wants them to, or the step before never succeeds."""
    hopeless = ~_is_first() & ~Exists(_step_before().exclude(status__in=UNSUCCESSFUL))
    return queued.filter(Q(cancel_requested_at__isnull=False) | hopeless)


def _is_first() -> Q:
    return Q(pipeline=None) | Q(step=0)


def _step_before() -> QuerySet[Run]:
    return Run.objects.order_by().filter(pipeline=OuterRef("pipeline"), step=OuterRef("step") - 1)


def find_dataset(name: str) -> RoutingDataset | SourceDataset:
    """The dataset called `name`, or the one that a run called so made or reused; InputError if there is none."""
    if not RoutingDataset.objects.filter(name=name).exists():
        run = Run.objects.filter(name=name, routing_dataset__isnull=False).order_by("-id").first()
        if run is not None and run.routing_dataset is not None:
            return run.routing_dataset
    return get_dataset(name)


def prepared_for(run: Run, base: str, version: AdapterVersion | None = None) -> PreparedDataset:
    """The prepared form, for the base `base`, of the dataset that `run` names: what its pipeline made, or `version` was
    trained from, or an earlier try of it read; where none of these tells, the newest.

    Two forms of a source dataset may hold out other screens, so none takes another's place: InputError if that one has
    been deleted, or if there is none at all.
    """
    name, nothing = run.params["dataset"], Run.objects.none()
    of_name = Run.objects.filter(params__dataset=name)
    made = of_name.filter(pipeline=run.pipeline, kind=Run.Kind.PREPROCESS, status=Status.SUCCEEDED)
    trained = of_name.filter(adapter_version=version, kind=Run.Kind.TRAIN, inputs__has_key="prepared_dataset")
    told = [
        *(made if run.pipeline else nothing).values_list("prepared_dataset", flat=True),
        *(trained if version else nothing).values_list("inputs__prepared_dataset", flat=True),
        *([run.inputs["prepared_dataset"]] if "prepared_dataset" in run.inputs else []),
    ]
    if not told:
        return get_prepared(find_dataset(name), base)
    prepared = PreparedDataset.objects.filter(pk=told[0], base=base).first()
    if prepared is None:
        words = "was prepared as for this work has been deleted, or is for another base model: launch all of it anew."
        raise InputError(f"What dataset {name!r} {words}")
    return prepared


def trained_on(version: AdapterVersion) -> list[PreparedDataset]:
    """What trainings that made these very files have read, as far as it is still there."""
    runs = Run.objects.filter(adapter_version__digest=version.digest, kind=Run.Kind.TRAIN).order_by()
    keys = set(runs.filter(inputs__has_key="prepared_dataset").values_list("inputs__prepared_dataset", flat=True))
    return list(PreparedDataset.objects.filter(pk__in=keys).order_by("pk"))
