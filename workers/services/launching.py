"""Launching and cancelling runs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice, repeat
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from pydantic import ValidationError

from datasets_app.errors import InputError
from datasets_app.names import check_name
from datasets_app.strict_json import check_json
from workers.compute import get_compute
from workers.kinds import HERE, KINDS, NAMES, get_kind
from workers.models import Pipeline, Run
from workers.services.hints import hint
from workers.services.money import check_affordable
from workers.services.moves import move, want_end
from workers.states import UNSUCCESSFUL, Status

TRIES = 10


class NameTaken(InputError):  # noqa: N818 - it says how the name stands
    """Somebody else has the name."""


def launch(
    kind: str,
    params: dict[str, Any],
    *,
    name: str | None = None,
    backend: str | None = None,
    user: User | None = None,
    pipeline: Pipeline | None = None,
    step: int = 0,
    reuse: bool = False,
    time_limit: int | None = None,
    inputs: dict[str, int] | None = None,
) -> Run:
    """Queue a run and say so to the workers. `reuse` lets it take the result of an equal run instead of working;
    `time_limit` is in seconds from its first launch, `inputs` the rows that are settled before.

    A name whose run is under way or has succeeded with the same parameters returns that run; with others it is an
    InputError, as is one outside `pipeline`, every parameter that cannot work, and a cost over a cap. Without a name
    there is always a new run. A run's name is also its dataset's, for generate_dataset.
    """
    validated = validate(kind, params, check_now=step == 0)
    if (only := HERE.get(kind)) and backend not in (None, only):
        raise InputError(f"{kind} runs on the backend {only!r} alone.")
    backend = only or backend or settings.COMPUTE_DEFAULT
    if missing := get_compute(backend).missing():
        raise InputError(f"backend: {missing}")
    existing = _in_use(name=check_name(name, "run name")) if name else None
    for candidate in islice(repeat(name) if name else new_names(kind), TRIES):
        if name and existing is not None:
            return _same(existing, kind, validated, pipeline)
        try:
            with transaction.atomic():  # of two launches at once, the second one counts the first
                check_affordable(kind, backend, time_limit)
                run = Run.objects.create(
                    name=candidate,
                    kind=kind,
                    params=validated,
                    backend=backend,
                    pipeline=pipeline,
                    step=step,
                    reuse=reuse and kind not in HERE,  # who knows what lies there now
                    time_limit=time_limit,
                    inputs=inputs or {},
                    created_by=user,
                )
        except IntegrityError:  # somebody else was first
            existing = _in_use(name=candidate)
            if existing is None and pipeline is not None and _in_use(pipeline=pipeline, step=step):
                words = f"Step {step + 1} of the pipeline {pipeline.name!r} is another one: choose another name."
                raise InputError(words) from None
        else:
            transaction.on_commit(hint, robust=True)
            return run
    raise RuntimeError(f"No name for a run of kind {kind} could be taken.")


def _in_use(**fields: Any) -> Run | None:
    """The run that stands in the way of another one with these fields."""
    return Run.objects.exclude(status__in=UNSUCCESSFUL).filter(**fields).first()


def _same(existing: Run, kind: str, params: dict[str, Any], pipeline: Pipeline | None) -> Run:
    """The run that has the name, if it is the one that is asked for."""
    if existing.kind != kind or validate(kind, existing.params, check_now=False) != params:
        words = f"exists ({existing.kind}, {existing.status}) with other parameters"
    elif pipeline is not None and existing.pipeline_id != pipeline.pk:
        words = f"exists ({existing.status}) outside the pipeline {pipeline.name!r}"
    else:
        return existing
    raise NameTaken(f"Run {existing.name!r} {words}: choose another name.")


def validate(kind: str, params: dict[str, Any], *, check_now: bool = True) -> dict[str, Any]:
    """The parameters in canonical form; `check_now` also asks whether what they name exists."""
    if kind not in KINDS:
        raise InputError(f"There is no kind of run {kind!r}; there are: {', '.join(KINDS)}.")
    check_json(params)
    module = get_kind(kind)
    try:
        validated = module.Params.model_validate(params)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}.") from error
    if check_now:
        module.check(validated)
    return validated.model_dump(mode="json")


def new_names(kind: str) -> Iterator[str]:
    """Names that no run has had: `routing_YYYYMMDD_HHMMSS` and the like."""
    names = numbered(f"{NAMES.get(kind, kind)}_{timezone.now():%Y%m%d_%H%M%S}")
    return (name for name in names if not Run.objects.filter(name=name).exists())


def numbered(stem: str) -> Iterator[str]:
    """`stem`, `stem_2`, `stem_3` and so on."""
    yield stem
    yield from (f"{stem}_{number}" for number in count(2))


def cancel(run: Run) -> Run:
    """Ask the run to end. One that is not on a backend yet ends now, others when their job has."""
    want_end(Run.objects.filter(pk=run.pk))
    run.refresh_from_db()
    if run.status == Status.QUEUED:
        move(run, Status.CANCELLED)
    if not run.is_over:
        transaction.on_commit(hint, robust=True)
    return run


def retry(run: Run) -> Run:
    """Launch a failed or cancelled run again: the same work under the same name, which finds its checkpoints.

    A step of a pipeline takes the steps after it along. InputError if the run goes on or has succeeded.
    """
    if run.status not in UNSUCCESSFUL:
        raise InputError(f"Run {run.name!r} is {run.status}: only a failed or cancelled run can be tried again.")
    if run.pipeline is not None:
        from workers.services.pipelines import retry_pipeline

        retry_pipeline(run.pipeline)
        return run.pipeline.steps[run.step]
    return relaunch(run)


def relaunch(run: Run) -> Run:
    """A new run of the same work, from the same prepared dataset; what serves, it asks anew."""
    settled = {name: key for name, key in run.inputs.items() if name == "prepared_dataset"}
    return launch(
        run.kind,
        run.params,
        name=run.name,
        backend=run.backend,
        user=run.created_by,
        pipeline=run.pipeline,
        step=run.step,
        reuse=run.reuse,
        time_limit=run.time_limit,
        inputs=settled,
    )


def log_tail(run: Run, lines: int = 200) -> str:
    """The last lines that the run's newest job wrote."""
    attempt = run.attempts.order_by("-number").first()
    return get_compute(run.backend).logs(attempt.handle, lines) if attempt and attempt.handle else ""
