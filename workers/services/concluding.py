"""The verdict on a pipeline whose runs are over: a step of the reconciler like any other, harmless to repeat.

An alert comes first: nothing that happens after it was found keeps it from people. Then whatever is slow or can be
repeated (loading a stack into the engine). Then outcome, promotion and notice are one transaction, conditional on the
pipeline's version: a process that is killed leaves all of them or none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from adapters.models import Alias, Evaluation, Stack
from adapters.promotion.comparing import compare_stacks
from adapters.promotion.criteria import promotion_criteria
from adapters.selectors import champion, spec_of
from adapters.services import build_stack, move_alias, switch_champion
from adapters.switch import Switch, way_back
from datasets_app.errors import InputError
from datasets_app.room import explain
from datasets_app.text import plain
from inference.engines.base import EngineError
from workers.models import Pipeline, Run
from workers.selectors import with_runs
from workers.services.clock import is_to_come
from workers.services.limits import has_failed
from workers.services.loading import StillLoading, load
from workers.services.moves import FINE, LEASE, LONGEST_LEASE
from workers.services.notifications import notify
from workers.services.reevaluating import alarm
from workers.states import ACTIVE, Status

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conclusion:
    """What came of a pipeline: the outcome in words; the switch that follows from it, or the stack that only waits for
    people to put it live; and what people are alerted to before, if anything."""

    outcome: Status
    words: str
    switch: Switch | None = None
    challenger: Stack | None = None
    alert: str = ""


def conclude_all() -> None:
    """Conclude every pipeline whose runs are over."""
    free = Pipeline.objects.exclude(is_to_come("lease_until", LONGEST_LEASE))
    over = free.filter(outcome="").exclude(runs__status__in=ACTIVE)
    for pipeline in with_runs(over.order_by("id")):  # whatever changes them from now on, changes the version, too
        try:
            conclude(pipeline)
        except SoftTimeLimitExceeded:
            raise
        except EngineError as error:
            log.warning("Pipeline %s cannot go live yet: %s", pipeline.name, error)
            fenced(pipeline, trouble=plain(str(error))[:500])
        except Exception as error:
            log.exception("Pipeline %s could not be concluded; the next round tries again.", pipeline.name)
            fenced(pipeline, trouble=explain(error)[:500])


def conclude(pipeline: Pipeline) -> None:
    """Say what came of the pipeline, once all of its runs are over."""
    steps = pipeline.steps
    if not steps or any(not run.is_over for run in steps):
        return
    if not fenced(pipeline, lease_until=timezone.now() + LEASE):
        return
    conclusion = Conclusion(Status.FAILED, "")
    try:
        conclusion = _conclusion(pipeline, steps)
        _sound(pipeline, conclusion.alert)
        if conclusion.switch is not None:
            load(spec_of(conclusion.switch.stack))
        _settle(pipeline, conclusion)
    except SoftTimeLimitExceeded:
        raise
    except InputError as error:
        _settle(pipeline, _failure(conclusion, str(error)))
    except StillLoading:
        fenced(pipeline, lease_until=None)
        raise
    except Exception as error:
        if not has_failed(pipeline, "FINALIZE"):
            fenced(pipeline, lease_until=None, failing_since=pipeline.failing_since or timezone.now())
            raise
        _settle(pipeline, _failure(conclusion, f"It could not go live: {error}"))


def _failure(conclusion: Conclusion, words: str) -> Conclusion:
    return Conclusion(Status.FAILED, plain(f"{conclusion.alert} {words}".lstrip()))


def _conclusion(pipeline: Pipeline, steps: list[Run]) -> Conclusion:
    if pipeline.cancel_requested_at is not None:
        return Conclusion(Status.CANCELLED, f"{pipeline.verdict} Cancelled.".lstrip())
    failed = [run for run in steps if run.status == Status.FAILED]
    if failed:
        run = min(failed, key=lambda run: run.step)
        words = f"Step {run.step + 1} of {len(steps)}, {run.kind}, failed: {run.error}"
        if pipeline.kind == Pipeline.Kind.REEVALUATE and any(run.evaluation for run in steps):
            found = _vigil(pipeline, steps)  # what it has seen, it has seen
            return replace(found, outcome=Status.FAILED, words=f"{found.words} {words}")
        return Conclusion(Status.FAILED, words)
    if any(run.status == Status.CANCELLED for run in steps):
        return Conclusion(Status.CANCELLED, "Cancelled.")
    return CONCLUSIONS[Pipeline.Kind(pipeline.kind)](pipeline, steps)


def _figures(pipeline: Pipeline, steps: list[Run]) -> Conclusion:
    """Nothing but the evaluation's headline."""
    return Conclusion(Status.SUCCEEDED, f"{_evaluated(steps)[0]}.{_reused(steps)}")


def _challenge(pipeline: Pipeline, steps: list[Run]) -> Conclusion:
    """The verdict of the paired comparison, and the switch if it and the policy say so."""
    evaluation, serving = _evaluated(steps)[0], champion()
    stack = evaluation.stack or build_stack(evaluation.version)
    if serving is not None and serving.pk == stack.pk:
        return Conclusion(Status.SUCCEEDED, f"Nothing new: this stack serves already.{_reused(steps)}")
    wish = {name: pipeline.wish[name] for name in ("margin", "floor", "drop") if name in pipeline.wish}
    decision = compare_stacks(stack, serving, promotion_criteria(**wish))
    words = f"{decision.reason}{_reused(steps)}"
    if not decision.approved:
        return Conclusion(Status.SUCCEEDED, f"{words} {'The serving router stays' if serving else 'No router serves'}.")
    if pipeline.live == Pipeline.Live.NEVER:
        return Conclusion(Status.SUCCEEDED, f"{words} It waits as the challenger.", challenger=stack)
    return Conclusion(Status.SUCCEEDED, f"{words} It is live.", Switch(stack, serving, decision.evaluation))


def _vigil(pipeline: Pipeline, steps: list[Run]) -> Conclusion:
    """Whether what serves is still as good as when it was promoted; the step back if not, and the policy says so."""
    evaluations = _evaluated(steps)
    serving = champion()
    found = alarm(pipeline, evaluations)
    if not found.is_alert:
        return Conclusion(Status.SUCCEEDED, found.words)
    words, switch = found.words, None
    if pipeline.wish.get("rollback"):
        if serving is None or serving.digest != pipeline.wish["stack"]:
            words += " Another router serves by now."
        else:
            try:
                switch = way_back(serving)
                words += f" Rolled back to {switch.stack}."
            except InputError as error:
                words += f" {error}"
    return Conclusion(Status.SUCCEEDED, words, switch, alert=found.words)


CONCLUSIONS: dict[Pipeline.Kind, Callable[[Pipeline, list[Run]], Conclusion]] = {
    Pipeline.Kind.ROUTER: _figures,
    Pipeline.Kind.EXPERT: _figures,
    Pipeline.Kind.ADD_EXPERT: _challenge,
    Pipeline.Kind.RETRAIN_ROUTER: _challenge,
    Pipeline.Kind.REEVALUATE: _vigil,
}


def _evaluated(steps: list[Run]) -> list[Evaluation]:
    found = [run.evaluation for run in steps if run.evaluation is not None]
    if not found:
        raise InputError("Its evaluation has been deleted.")
    return found


def _reused(steps: list[Run]) -> str:
    reused = [run.kind for run in steps if run.reused_from_id is not None]
    return f" Reused, as nothing in them has changed: {', '.join(reused)}." if reused else ""


def _sound(pipeline: Pipeline, alert: str) -> None:
    """Tell of the alert, and write it down as what is known so far; once, however often the rest is tried."""
    if not alert or pipeline.verdict == alert:
        return
    with _at_once(pipeline):
        if fenced(pipeline, verdict=alert):
            _notify(pipeline, f"Pipeline {pipeline.name}: {alert}", is_alert=True)


def _settle(pipeline: Pipeline, conclusion: Conclusion) -> None:
    """Outcome, switch and notice at once, or nothing if somebody else was first."""
    switch = conclusion.switch
    with _at_once(pipeline):
        live = switch.stack if switch else None
        outcome: dict[str, Any] = {"outcome": conclusion.outcome, "verdict": conclusion.words, **FINE}
        promoted = {"promoted": live} if live else {}  # what it once put live, it has put live
        if not fenced(pipeline, **outcome, **promoted, finished_at=timezone.now(), lease_until=None):
            return
        if conclusion.challenger is not None:
            move_alias(Alias.Name.CHALLENGER, conclusion.challenger)
        if switch is not None:
            switch_champion(switch, reason=f"Pipeline {pipeline.name}: {conclusion.words}")
        words = f"Pipeline {pipeline.name} {conclusion.outcome.value}: {conclusion.words}"
        _notify(pipeline, words, is_alert=conclusion.outcome == Status.FAILED, live=live.digest if live else None)


def _notify(pipeline: Pipeline, text: str, **facts: Any) -> None:
    facts |= {name: str(getattr(pipeline, name)) for name in ("kind", "outcome", "verdict")}
    facts["pipeline"] = pipeline.name
    notify(f"pipeline-{pipeline.pk}-{pipeline.version}", text, **facts)


@contextmanager
def _at_once(pipeline: Pipeline) -> Iterator[None]:
    """A transaction; what it has counted on of the pipeline is taken back with it."""
    held = pipeline.version
    try:
        with transaction.atomic():
            yield
    except BaseException:
        pipeline.version = held
        raise


def fenced(pipeline: Pipeline, **fields: Any) -> bool:
    """Change the open pipeline unless somebody else has since it was read."""
    rows = Pipeline.objects.filter(pk=pipeline.pk, version=pipeline.version, outcome="")
    if not rows.update(version=F("version") + 1, **fields):
        return False
    pipeline.version += 1
    for name, value in fields.items():
        setattr(pipeline, name, value)
    return True
