"""The verdict on a pipeline, and the switch that follows from it."""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from adapters.models import Adapter, AdapterVersion, Alias, Evaluation, Promotion, Stack
from adapters.promotion.comparing import compare_stacks
from adapters.promotion.criteria import promotion_criteria
from adapters.services import build_stack, switch_champion
from adapters.switch import Switch
from datasets_app.errors import InputError
from inference.engines.base import EngineError
from inference.services import promote
from tests.cast import digest, make_adapter, make_champion, make_run, make_version
from tests.workers.services.conftest import RecordingEngine
from workers.models import Alert, Notification, Pipeline, Run
from workers.services import advance_all, cancel_pipeline, concluding, loading, retry_pipeline
from workers.services.concluding import conclude, conclude_all, fenced
from workers.states import Status

OLD, NEW = ("calendar", "claim-window"), "provider-select"

pytestmark = pytest.mark.django_db


def evaluated(
    version: AdapterVersion,
    stack: Stack | None,
    right: dict[str, int],
    of: int = 40,
    answers: dict[str, int | None] | None = None,
) -> Evaluation:
    """An evaluation on `of` samples of each class, of which the first `right[class]` were routed right, and the first
    `answers[class]`, by default as many, answered right; of None nobody knows the answers."""
    exact = {**right, **(answers or {})}
    samples: list[dict[str, Any]] = [
        {"id": f"{label}_{n}", "label": label, "routed": label if n < hits else "?", "correct": n < hits}
        for label, hits in right.items() for n in range(of)
    ]  # fmt: skip
    for sample in samples:
        hits, n = exact[sample["label"]], int(sample["id"].rpartition("_")[2])
        if stack is not None and hits is not None:
            sample["end_to_end"] = {"valid": True, "exact": n < hits}
    share = sum(right.values()) / len(samples)
    return Evaluation.objects.create(
        version=version, stack=stack, dataset_name="held-out", dataset_digest=digest("held-out"), samples=len(samples),
        accuracy=share, ci_low=share, ci_high=share, path=f"/nowhere/{Evaluation.objects.count()}",
        report={"samples": samples},
    )  # fmt: skip


class World:
    """A serving stack, and a challenger that knows one class more."""

    def __init__(self) -> None:
        self.serving = make_champion()
        make_version(make_adapter(NEW))
        self.version = make_version(self.serving.router.adapter, (*OLD, NEW))
        self.stack = build_stack(self.version)

    def replace(self, name: str) -> Stack:
        """The challenger's stack with a newer version of the expert `name`, which is current from now on."""
        make_version(Adapter.objects.get(name=name))
        self.stack = build_stack(self.version)
        return self.stack

    def pipeline(
        self,
        new: dict[str, int],
        old: dict[str, int],
        name: str = "add",
        answers: dict[str, int | None] | None = None,
        **fields: Any,
    ) -> Pipeline:
        """A pipeline whose runs are over, with what the two routers got right of 40 of each class, and how many the new
        one's stack answered right."""
        defaults = {"kind": Pipeline.Kind.ADD_EXPERT, "live": Pipeline.Live.IF_BETTER}
        pipeline = Pipeline.objects.create(name=name, **{**defaults, **fields})
        evaluations = [
            evaluated(self.version, self.stack, new, answers=answers),
            evaluated(self.serving.router, self.serving, old),
        ]
        for step, evaluation in enumerate(evaluations):
            row = {"kind": Run.Kind.EVALUATE, "pipeline": pipeline, "step": step, "evaluation": evaluation}
            make_run(f"{name}-{step}", Status.SUCCEEDED, finished_at=timezone.now(), **row)
        return pipeline

    @property
    def live(self) -> Stack:
        return Alias.objects.get(name="champion").stack


@pytest.fixture
def world(settings: Any) -> World:
    """Its 40 samples a class cannot show less than the wide margin; `tests/adapters/promotion` has the rule itself."""
    settings.PROMOTION_MARGIN = 0.2
    return World()


GOOD = {"calendar": 40, "claim-window": 40, NEW: 40}
WITHOUT = {"calendar": 40, "claim-window": 40, NEW: 0}  # the serving router cannot know the new class


def test_a_round_reads_no_runs_of_pipelines_that_go_on_and_of_the_others_nothing_heavy(world: World) -> None:
    def queries() -> list[str]:
        with CaptureQueriesContext(connection) as asked:
            conclude_all()
        return [query["sql"] for query in asked]

    nothing = len(queries())
    for name in ("a", "b"):
        make_run(f"{name}-active", pipeline=world.pipeline(GOOD, GOOD, name=name), step=2)
    assert len(queries()) == nothing
    world.pipeline(GOOD, WITHOUT)
    asked = queries()
    assert len(asked) > nothing
    assert not [sql for sql in asked if '"spec"' in sql or '"summary"' in sql]


def test_a_better_router_goes_live_once(world: World, engine: RecordingEngine) -> None:
    pipeline = world.pipeline(GOOD, WITHOUT)
    for _ in range(3):
        conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, pipeline.promoted) == ("succeeded", world.stack)
    assert f"New class {NEW!r} is above the floor of 80%: 40 of 40 right" in pipeline.verdict
    assert "It is live." in pipeline.verdict
    assert world.live == world.stack
    made = Promotion.objects.get()
    assert (made.stack, made.previous, made.evaluation.version) == (world.stack, world.serving, world.version)  # type: ignore[union-attr]
    assert engine.deployed == [world.stack.digest]


def test_of_two_that_conclude_at_once_one_does(world: World, engine: RecordingEngine) -> None:
    pipeline = world.pipeline(GOOD, WITHOUT)
    first, second = Pipeline.objects.get(pk=pipeline.pk), Pipeline.objects.get(pk=pipeline.pk)
    conclude(first)
    conclude(second)
    assert Promotion.objects.count() == 1


def test_a_router_that_is_no_better_stays_out(world: World, engine: RecordingEngine) -> None:
    pipeline = world.pipeline(WITHOUT, WITHOUT)
    conclude_all()
    pipeline.refresh_from_db()
    assert pipeline.outcome == "succeeded"
    assert f"New class {NEW!r} is below the floor" in pipeline.verdict
    assert world.live == world.serving
    assert engine.deployed == []


def test_a_new_class_does_not_hide_a_loss_on_the_others(world: World, engine: RecordingEngine) -> None:
    pipeline = world.pipeline({"calendar": 25, "claim-window": 40, NEW: 40}, WITHOUT)
    conclude_all()
    pipeline.refresh_from_db()
    assert "Class 'calendar' is worse: 25 of 40 right, the champion 40" in pipeline.verdict
    assert world.live == world.serving


def test_of_a_year_of_nightly_evaluations_a_verdict_reads_but_two_reports(world: World) -> None:
    for _ in range(365):
        evaluated(world.serving.router, world.serving, WITHOUT, of=1)
    evaluated(world.version, world.stack, GOOD, of=1)
    with CaptureQueriesContext(connection) as queries:
        compare_stacks(world.stack, world.serving, promotion_criteria())
    read = [query["sql"] for query in queries if '"report"' in query["sql"]]
    assert len(read) == 2  # the challenger's, and the champion's


def test_the_serving_router_with_other_experts_must_answer_better(world: World, engine: RecordingEngine) -> None:
    router = world.serving.router
    evaluated(router, world.serving, {"calendar": 25, "claim-window": 40})
    make_version(world.serving.experts.get(adapter__name="calendar").adapter)
    other = build_stack(router)
    with pytest.raises(InputError, match=r"with calendar v2 in the place of calendar v1 was never compared"):
        promote(router)
    evaluated(router, other, {"calendar": 25, "claim-window": 40})
    with pytest.raises(InputError, match="Right answers on the classes that both know: undecided"):
        promote(router)
    assert (world.live, engine.deployed) == (world.serving, [])
    better = evaluated(router, other, {"calendar": 40, "claim-window": 40})
    assert promote(router) == world.live == other
    assert Promotion.objects.get().evaluation == better


def test_an_expert_that_answers_worse_does_not_go_live_behind_a_better_router(
    world: World, engine: RecordingEngine
) -> None:
    world.replace("calendar")
    pipeline = world.pipeline(GOOD, WITHOUT, answers={"calendar": 20})
    conclude_all()
    pipeline.refresh_from_db()
    assert "With calendar v2 in the place of calendar v1, the share of right answers in class" in pipeline.verdict
    assert "is worse: 20 of 40 right, the champion 40" in pipeline.verdict
    assert (world.live, engine.deployed) == (world.serving, [])


@pytest.mark.parametrize("answers", [{"calendar": 40}, {"calendar": 37}, {NEW: 0}])
def test_another_version_of_an_expert_that_answers_as_well_goes_live(
    world: World, engine: RecordingEngine, answers: dict[str, int | None]
) -> None:
    """Not significantly worse, that is; on a class that is new there is nothing to compare with."""
    stack = world.replace("calendar")
    pipeline = world.pipeline(GOOD, WITHOUT, answers=answers)
    conclude_all()
    pipeline.refresh_from_db()
    assert world.live == stack
    assert "Right answers on the classes that both know: undecided: of 80 samples" in pipeline.verdict


def test_better_answers_elsewhere_do_not_hide_a_worse_expert(world: World, engine: RecordingEngine) -> None:
    """Neither those of a better router nor those of another expert."""
    world.replace("calendar")
    old = {"calendar": 40, "claim-window": 10, NEW: 0}
    pipeline = world.pipeline(GOOD, old, answers={"calendar": 20})
    conclude_all()
    pipeline.refresh_from_db()
    assert "is worse: 20 of 40 right" in pipeline.verdict
    assert world.live == world.serving

    world.version = world.serving.router
    world.replace("claim-window")
    evaluated(world.version, world.stack, {"calendar": 30, "claim-window": 40, NEW: 0})
    with pytest.raises(
        InputError, match=r"With calendar v2 in the place of calendar v1, the share of right answers .* is worse"
    ):
        promote(world.version)


def test_better_routes_with_worse_answers_do_not_go_live(world: World, engine: RecordingEngine) -> None:
    pipeline = world.pipeline(GOOD, WITHOUT, answers={"calendar": 30})
    conclude_all()
    pipeline.refresh_from_db()
    assert "Right answers on the classes that both know: worse: of 80 samples" in pipeline.verdict
    assert world.live == world.serving


def test_by_hand_no_expert_goes_live_that_was_not_compared_with_the_one_that_serves(
    world: World, engine: RecordingEngine
) -> None:
    """Not on evaluations of the routers alone, nor on those of other stacks; `force` asks for none."""
    router = world.serving.router
    evaluated(world.version, world.stack, GOOD)
    evaluated(router, world.serving, WITHOUT)
    stack = world.replace("calendar")
    never = r"router v2 with calendar v2 in the place of calendar v1 was never compared .* `evaluate --serving"
    for mine in (None, None, stack):
        with pytest.raises(InputError, match=never):
            promote(world.version)
        evaluated(world.version, mine, GOOD)
    Evaluation.objects.filter(stack=world.serving).update(stack=None)
    with pytest.raises(InputError, match=never):
        promote(world.version)
    assert (world.live, engine.deployed) == (world.serving, [])
    evaluated(router, world.serving, WITHOUT)
    assert promote(world.version) == world.live == stack


def test_by_hand_the_experts_that_serve_need_no_evaluation_with_another_router(
    world: World, engine: RecordingEngine
) -> None:
    """Nor do those of classes that the serving router does not know."""
    evaluated(world.version, None, GOOD)
    evaluated(world.serving.router, None, WITHOUT)
    stack = world.replace(NEW)
    assert promote(world.version) == world.live == stack


def test_an_expert_of_whose_class_no_answers_are_known_is_not_judged(world: World, engine: RecordingEngine) -> None:
    stack = world.replace("calendar")
    for version, of, right in ((world.version, stack, GOOD), (world.serving.router, world.serving, WITHOUT)):
        evaluated(version, of, right, answers={"calendar": None})
    with pytest.raises(InputError, match="the share of right answers in class 'calendar' has no samples"):
        promote(world.version)
    assert promote(world.version, force_reason="No answers are known.") == world.live == stack


def test_the_first_to_serve_is_compared_with_nothing(engine: RecordingEngine) -> None:
    make_version(make_champion().experts.get(adapter__name="calendar").adapter)
    Alias.objects.all().delete()
    router = AdapterVersion.objects.get(adapter__name="router")
    evaluated(router, None, {"calendar": 40, "claim-window": 40})
    assert promote(router).experts.filter(adapter__name="calendar", number=2).exists()


def test_never_makes_a_challenger(world: World, engine: RecordingEngine) -> None:
    pipeline = world.pipeline(GOOD, WITHOUT, live=Pipeline.Live.NEVER)
    conclude_all()
    pipeline.refresh_from_db()
    assert "waits as the challenger" in pipeline.verdict
    assert world.live == world.serving
    assert Alias.objects.get(name="challenger").stack == world.stack


def test_an_engine_that_is_down_only_delays_the_switch(world: World, engine: RecordingEngine) -> None:
    engine.error = EngineError("The engine is not running.")
    pipeline = world.pipeline(GOOD, WITHOUT)
    conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, pipeline.status) == ("", Status.FINALIZING)
    assert "not running" in pipeline.trouble
    assert world.live == world.serving
    engine.error = None
    conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, pipeline.trouble) == ("succeeded", "")
    assert world.live == world.stack


def test_a_router_that_went_live_meanwhile_is_not_overrun(
    world: World, engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither before the verdict nor between the verdict and the switch."""
    pipeline = world.pipeline(GOOD, WITHOUT)
    third = build_stack(make_version(world.serving.router.adapter, OLD))

    with monkeypatch.context() as patch:
        patch.setattr(concluding, "load", lambda stack: switch_champion(Switch(third, world.serving)))
        conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, pipeline.promoted) == ("failed", None)
    assert "went live meanwhile" in pipeline.verdict
    assert world.live == third

    other = world.pipeline(GOOD, WITHOUT, name="other")
    conclude_all()
    other.refresh_from_db()
    assert "never evaluated on the same samples" in other.verdict
    assert world.live == third


def test_what_is_cancelled_before_it_goes_live_never_does(world: World, engine: RecordingEngine) -> None:
    """Although its runs have all succeeded, and until somebody tries again."""
    engine.error = EngineError("The engine is not running.")
    pipeline = world.pipeline(GOOD, WITHOUT)
    conclude_all()
    cancel_pipeline(pipeline)
    engine.error = None
    conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, pipeline.verdict, pipeline.promoted) == ("cancelled", "Cancelled.", None)
    assert (world.live, engine.deployed) == (world.serving, [])
    retry_pipeline(pipeline)
    conclude_all()
    assert world.live == world.stack


def test_a_cancel_overtakes_the_switch_of_a_pipeline_that_is_being_concluded(
    world: World, engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = world.pipeline(GOOD, WITHOUT)
    monkeypatch.setattr(concluding, "load", lambda stack: cancel_pipeline(Pipeline.objects.get(pk=pipeline.pk)))
    for _ in range(2):
        conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, world.live) == ("cancelled", world.serving)


def test_a_cancel_after_the_switch_changes_nothing(world: World, engine: RecordingEngine) -> None:
    pipeline = world.pipeline(GOOD, WITHOUT)
    conclude_all()
    assert cancel_pipeline(pipeline).status == Status.SUCCEEDED
    conclude_all()
    assert (pipeline.outcome, world.live) == ("succeeded", world.stack)


def test_an_engine_that_loads_for_long_holds_no_round_up_and_is_asked_once(
    world: World, engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = threading.Event()
    asked: list[object] = []

    def deploy(stack: object) -> None:
        asked.append(stack)
        assert loaded.wait(30)

    monkeypatch.setattr(engine, "deploy", deploy)
    monkeypatch.setattr(loading, "PATIENCE", 0.01)
    pipeline, other = (world.pipeline(GOOD, WITHOUT, name=live, live=live) for live in ("if-better", "never"))
    for _ in range(2):
        conclude_all()
    pipeline.refresh_from_db()
    other.refresh_from_db()
    assert (pipeline.outcome, other.outcome, world.live) == ("", "succeeded", world.serving)
    assert "still loads" in pipeline.trouble
    loaded.set()
    monkeypatch.setattr(loading, "PATIENCE", 30)
    conclude_all()
    assert (world.live, len(asked)) == (world.stack, 1)


def test_an_engine_that_is_down_for_long_fails_the_pipeline(world: World, engine: RecordingEngine) -> None:
    """From the first try that failed on: before that, the platform itself may have been off."""
    engine.error = EngineError("The engine is not running.")
    pipeline = world.pipeline(GOOD, WITHOUT)
    Run.objects.update(finished_at=timezone.now() - timedelta(hours=8))
    conclude_all()
    pipeline.refresh_from_db()
    since = pipeline.failing_since
    assert (pipeline.outcome, pipeline.trouble) == ("", "The engine is not running.")
    conclude_all()
    pipeline.refresh_from_db()
    assert pipeline.failing_since == since is not None
    Pipeline.objects.update(failing_since=since - timedelta(minutes=31))
    conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, pipeline.verdict) == ("failed", "It could not go live: The engine is not running.")
    retry_pipeline(pipeline)
    conclude_all()
    pipeline.refresh_from_db()
    assert pipeline.outcome == ""
    engine.error = None
    conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, pipeline.failing_since, world.live) == ("succeeded", None, world.stack)


@pytest.fixture
def endless(engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """An engine that loads without end, and what it was asked to load; no round waits for it."""
    over, asked = threading.Event(), []

    def deploy(stack: object) -> None:
        asked.append(stack)
        over.wait(30)

    monkeypatch.setattr(engine, "deploy", deploy)
    monkeypatch.setattr(loading, "PATIENCE", 0.01)
    yield asked
    over.set()


def test_to_load_for_long_is_no_failure(world: World, endless: list[object]) -> None:
    """Nor does it take back that everything before has failed."""
    pipeline = world.pipeline(GOOD, WITHOUT)
    Run.objects.update(finished_at=timezone.now() - timedelta(hours=8))
    for since in (None, timezone.now() - timedelta(hours=8)):
        Pipeline.objects.update(failing_since=since)
        conclude_all()
        pipeline.refresh_from_db()
        assert "still loads" in pipeline.trouble
        assert (pipeline.outcome, pipeline.failing_since) == ("", since)


def test_to_load_without_end_is_one(world: World, endless: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another try begins anew, of a pipeline that is opened again, too."""
    pipeline = world.pipeline(GOOD, WITHOUT)
    monkeypatch.setattr(loading, "LONGEST", 0.0)
    conclude_all()
    pipeline.refresh_from_db()
    assert "has not loaded the stack within" in pipeline.trouble
    assert pipeline.failing_since is not None
    Pipeline.objects.update(failing_since=timezone.now() - timedelta(minutes=31))
    conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, len(endless)) == ("failed", 2)


def test_what_a_pipeline_has_put_live_stays_on_record(world: World, engine: RecordingEngine) -> None:
    """Though somebody opens it again."""
    pipeline = world.pipeline(GOOD, WITHOUT)
    conclude_all()
    Pipeline.objects.update(outcome="")
    conclude_all()
    pipeline.refresh_from_db()
    assert "serves already" in pipeline.verdict
    assert pipeline.promoted == world.stack


def test_the_stack_that_serves_is_nothing_new(world: World, engine: RecordingEngine) -> None:
    pipeline = world.pipeline(GOOD, WITHOUT)
    switch_champion(Switch(world.stack, world.serving))
    conclude_all()
    pipeline.refresh_from_db()
    assert "serves already" in pipeline.verdict
    assert Promotion.objects.count() == 1


def test_other_experts_behind_the_same_router_are_judged_by_their_answers(
    world: World, engine: RecordingEngine
) -> None:
    make_version(world.stack.experts.get(adapter__name="calendar").adapter)
    world.version, better = world.serving.router, build_stack(world.serving.router)
    world.stack = better
    pipeline = world.pipeline({"calendar": 40, "claim-window": 40}, {"calendar": 20, "claim-window": 40})
    conclude_all()
    pipeline.refresh_from_db()
    assert "Right answers on the classes that both know: better" in pipeline.verdict
    assert world.live == better


def test_a_failed_step_fails_the_pipeline_until_it_is_tried_again(world: World, engine: RecordingEngine) -> None:
    pipeline = world.pipeline(GOOD, WITHOUT)
    params = {"adapter": "router", "dataset": "calendar"}
    Run.objects.filter(name="add-1").update(status=Status.FAILED, error="Out of memory.", params=params)
    conclude_all()
    pipeline.refresh_from_db()
    assert pipeline.status == Status.FAILED
    assert pipeline.verdict == "Step 2 of 2, evaluate, failed: Out of memory."
    retry_pipeline(pipeline)
    assert [run.status for run in pipeline.steps] == [Status.SUCCEEDED, Status.QUEUED]
    conclude_all()
    pipeline.refresh_from_db()
    assert (pipeline.outcome, pipeline.verdict, pipeline.status) == ("", "", Status.RUNNING)


def test_a_verdict_that_a_retry_overtakes_is_not_written(world: World, engine: RecordingEngine) -> None:
    pipeline = world.pipeline(GOOD, WITHOUT)
    params = {"adapter": "router", "dataset": "calendar"}
    Run.objects.filter(name="add-1").update(status=Status.FAILED, params=params)
    stale = Pipeline.objects.get(pk=pipeline.pk)
    retry_pipeline(pipeline)
    assert not fenced(stale, outcome=Status.FAILED)
    assert Pipeline.objects.get(pk=pipeline.pk).outcome == ""


def test_the_end_of_a_pipeline_is_told_once(world: World, engine: RecordingEngine, settings: Any) -> None:
    settings.NOTIFY = {"EMAILS": ["op@example.org"], "WEBHOOK_URL": "http://127.0.0.1:9/", "WEBHOOK_SECRET": "s" * 16}
    world.pipeline(GOOD, WITHOUT)
    for _ in range(2):
        advance_all()
    assert sorted(Notification.objects.values_list("channel", flat=True)) == ["email", "webhook"]
    facts = Alert.objects.get().details
    assert (facts["outcome"], facts["live"]) == ("succeeded", world.stack.digest)


@pytest.mark.parametrize(("status", "level"), [(Status.FAILED, "alert"), (Status.CANCELLED, "info")])
def test_a_pipeline_that_does_not_succeed_is_told_without_any_channel(
    world: World, engine: RecordingEngine, settings: Any, status: Status, level: str
) -> None:
    settings.NOTIFY = {"EMAILS": [], "WEBHOOK_URL": "", "WEBHOOK_SECRET": ""}
    world.pipeline(GOOD, WITHOUT)
    Run.objects.filter(name="add-1").update(status=status, error="Out of memory.")
    conclude_all()
    alert = Alert.objects.get()
    assert (alert.level, alert.details["outcome"]) == (level, status.value)
    assert alert.text.startswith(f"Pipeline add {status.value}: ")


class Killed(BaseException):
    """What no handler catches, as no handler catches SIGKILL; the database takes back what was not committed."""


def killed_at(line: int) -> bool:
    """Conclude everything, and die at the given line of the platform's own code; False if there are not so many."""
    left = line

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        own = frame.f_code.co_filename.endswith(("concluding.py", "adapters/services.py", "notifications.py"))
        # Leaving a `with` is a line event, too, and an exception there would skip `__exit__`, as no SIGKILL can.
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if own and event == "line" and not text.strip().startswith("with "):
            left -= 1
            if not left:
                raise Killed
        return trace if own else None

    sys.settrace(trace)
    try:
        with transaction.atomic():
            conclude_all()
    except Killed:
        return True
    finally:
        sys.settrace(None)
    return False


def test_killed_at_any_line_the_end_is_the_same(world: World, engine: RecordingEngine) -> None:
    """One promotion, one verdict; never one without the other."""
    line = 0
    died = True
    while died:
        line += 3
        with transaction.atomic():
            pipeline = world.pipeline(GOOD, WITHOUT, name=f"p{line}")
            died = killed_at(line)
            pipeline.refresh_from_db()
            assert bool(pipeline.outcome) == Promotion.objects.exists() == (world.live == world.stack)
            Pipeline.objects.update(lease_until=None)
            conclude_all()
            pipeline.refresh_from_db()
            assert (pipeline.outcome, pipeline.promoted, world.live) == ("succeeded", world.stack, world.stack)
            assert Promotion.objects.count() == 1
            transaction.set_rollback(True)
    assert line > 60
