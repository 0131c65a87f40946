"""One click: what is checked before anything is queued, and what the new router keeps of the old."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from adapters.backbone.spec import fingerprint
from adapters.models import Adapter, Alias, Promotion
from adapters.selectors import champion
from adapters.services import base_spec, register_adapter
from datasets_app.errors import InputError
from datasets_app.models import SourceDataset
from tests.cast import (
    make_adapter,
    make_champion,
    make_evaluation,
    make_prepared,
    make_routing_dataset,
    make_run,
    make_source,
    make_stack,
    make_version,
)  # fmt: skip
from workers.models import Pipeline, Run
from workers.services import (
    add_expert,
    cancel_pipeline,
    launch_expert_pipeline,
    launch_router_pipeline,
    reevaluate,
    retrain_router,
)
from workers.states import Status

pytestmark = pytest.mark.django_db

DRAWN = {
    "adapters": ["calendar", "claim-window"], "negatives": ["other"], "samples_per_class": 77, "seed": 5,
    "split": [0.6, 0.2, 0.2],
}  # fmt: skip


@pytest.fixture
def serving() -> None:
    """A champion with its whole lineage."""
    stack = make_champion()
    router = stack.router
    router.card["labels"].append("none")
    router.save()
    make_source("other")
    dataset = make_routing_dataset("old")
    make_prepared(dataset)
    made = {"kind": Run.Kind.GENERATE_DATASET, "routing_dataset": dataset, "params": DRAWN}
    make_run("old", Status.SUCCEEDED, **made)
    params = {"dataset": "old", "adapter": "router", "config": {"max_steps": 9}}
    make_run("old-train", Status.SUCCEEDED, kind=Run.Kind.TRAIN, adapter_version=router, params=params)
    evaluation = make_evaluation(router)
    asked = {"run": "old-train", "dataset": "old", "stack": True, "max_samples": None}
    make_run("old-evaluate", Status.SUCCEEDED, kind=Run.Kind.EVALUATE, evaluation=evaluation, params=asked)
    Promotion.objects.create(stack=stack, evaluation=evaluation)


@pytest.fixture
def source(samples: dict[str, Path]) -> Path:
    return samples["provider-select"]


def test_the_new_router_keeps_classes_negatives_and_parameters(serving: None, source: Path) -> None:
    pipeline = add_expert("provider-select", source=source, pipeline="add")
    assert (pipeline.kind, pipeline.live, pipeline.status) == ("add_expert", "if-better", Status.QUEUED)
    steps = {run.name.removeprefix("add"): run for run in pipeline.steps}
    assert list(steps) == [
        "-expert-preprocess", "-expert-train", "", "-preprocess", "-train", "-evaluate", "-serving"
    ]  # fmt: skip
    drawn = steps[""].params
    assert drawn["adapters"] == ["calendar", "claim-window", "provider-select"]
    assert (drawn["negatives"], drawn["samples_per_class"], drawn["seed"]) == (["other"], 77, 5)
    learnt = steps["-expert-preprocess"].params
    assert (learnt["seed"], learnt["split"]) == (5, [0.6, 0.2, 0.2]), "the same screens are held out for all"
    assert steps["-train"].params["config"] == {"max_steps": 9}
    for suffix, subject in (("-evaluate", {"run": "add-train"}), ("-serving", {"serving": True})):
        assert {**subject, "dataset": "add", "stack": True}.items() <= steps[suffix].params.items()


def test_what_is_given_takes_the_place_of_what_was(serving: None, source: Path) -> None:
    make_source("more")
    pipeline = add_expert(
        "provider-select", source=source, negatives=["more"], samples_per_class=9, train={"rank": 4}, live="never"
    )
    drawn = pipeline.steps[2].params
    assert (drawn["negatives"], drawn["samples_per_class"], drawn["seed"]) == (["more"], 9, 5)
    assert pipeline.steps[4].params["config"] == {"max_steps": 9, "rank": 4}
    assert pipeline.live == "never"


def test_an_activated_router_stays_so_and_its_new_expert_becomes_so(serving: None, source: Path) -> None:
    """Unless told otherwise; of imported files the card tells."""

    def ways(pipeline: Pipeline) -> list[Any]:
        return [run.params["config"].get("activated") for run in pipeline.steps if run.kind == Run.Kind.TRAIN]

    assert ways(add_expert("provider-select", source=source, pipeline="plain")) == [None, None]
    trained = Run.objects.get(name="old-train")
    trained.params["config"]["activated"] = True
    trained.save()
    assert ways(add_expert("provider-select", source=source, pipeline="a")) == [True, True]
    plainly: dict[str, Any] = {"train": {"activated": False}}
    assert ways(add_expert("provider-select", source=source, pipeline="b", **plainly)) == [None, False]
    mixed: dict[str, Any] = {"train_expert": {"activated": False}}
    assert ways(add_expert("provider-select", source=source, pipeline="c", **mixed)) == [False, True]
    router = trained.adapter_version
    assert router is not None
    router.card["invocation"] = [7]
    router.save()
    trained.delete()
    assert ways(add_expert("provider-select", source=source, pipeline="d", negatives=["other"])) == [True, True]


def test_a_router_that_sees_fewer_pixels_goes_on_so_unless_told_otherwise(serving: None, source: Path) -> None:
    """And its new expert sees its own, save where the two are to share a prefix."""

    def pixels(pipeline: Pipeline) -> list[int | None]:
        return [run.params.get("max_pixels") for run in pipeline.steps if run.kind == Run.Kind.PREPROCESS]

    stack = champion()
    assert stack is not None
    router = stack.router
    add = functools.partial(add_expert, "provider-select", source=source)
    router.card.update(base=fingerprint(base_spec()), max_pixels=36_864)
    router.save()
    assert pixels(add(pipeline="usual")) == [None, None], "the base's own"
    router.card["max_pixels"] = 9 * 1024
    router.save()
    assert pixels(add(pipeline="fewer")) == [None, 9 * 1024]
    assert pixels(add(pipeline="given", max_pixels=4 * 1024)) == [None, 4 * 1024]
    assert pixels(add(pipeline="shared", train={"activated": True}, max_pixels=16 * 1024)) == [16 * 1024] * 2
    mixed: dict[str, Any] = {"train_expert": {"activated": True}}
    assert pixels(add(pipeline="mixed", **mixed)) == [None, 9 * 1024], "a plain router shares no prefix"
    assert pixels(launch_router_pipeline("first", adapters=["calendar", "claim-window"], max_pixels=1024)) == [1024]
    router.card["base"] = "sha256:" + "7" * 64
    router.save()
    assert pixels(add(pipeline="elsewhere")) == [None, None], "another base counts other pixels"


@pytest.mark.parametrize("ask", [add_expert, retrain_router, launch_router_pipeline])
def test_pixels_that_the_base_cannot_keep_to_are_refused_before_anything_is_queued(
    serving: None, source: Path, ask: Callable[..., Pipeline]
) -> None:
    given: dict[Any, dict[str, Any]] = {
        add_expert: {"name": "provider-select", "source": source},
        launch_router_pipeline: {"name": "new", "adapters": ["calendar", "claim-window"]},
    }
    for pixels in (10_000, 0, -1024):
        with pytest.raises(InputError, match=f"max_pixels is {pixels}: .* a multiple of 1024"):
            ask(max_pixels=pixels, **given.get(ask, {}))
    assert not Pipeline.objects.exists()


def test_pixels_of_the_serving_router_that_the_base_cannot_keep_to_are_refused_likewise(
    serving: None, source: Path
) -> None:
    stack = champion()
    assert stack is not None
    stack.router.card.update(base=fingerprint(base_spec()), max_pixels=10_000)
    stack.router.save()
    with pytest.raises(InputError, match="max_pixels is 10000"):
        add_expert("provider-select", source=source)
    assert not Pipeline.objects.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, "adapter name"),
        ({"name": "none"}, "'none'"),
        ({"name": "router"}, "registered as router"),
        ({"source": "/nowhere"}, "nowhere"),
        ({"adapter": "/nowhere"}, "nowhere"),
        ({"negatives": ["nothing"]}, "no source dataset 'nothing'"),
        ({"samples_per_class": 0}, "samples_per_class"),
        ({"live": "always"}, "live: 'always'"),
        ({"margin": 5.0}, "margin: 5 is no share between 0 and 1"),
        ({"floor": 0.0}, "floor: 0 is no share between 0 and 1"),
        ({"drop": ["nothing"]}, "drop: 'nothing' is no class that serves; there are: calendar, claim-window"),
        ({"pipeline": "a b"}, "pipeline name"),
    ],
)
def test_what_cannot_work_queues_nothing(serving: None, source: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        add_expert(**{"name": "provider-select", "source": source, **change})
    assert not Pipeline.objects.exists()
    assert not Run.objects.exclude(name__startswith="old").exists()


def test_no_class_is_lost_that_was_not_named_to_be_dropped(serving: None, source: Path) -> None:
    with pytest.raises(InputError, match=r"drop: the new router would not know claim-window, which serves"):
        retrain_router(adapters=["calendar"], negatives=["other"])
    with pytest.raises(InputError, match=r"drop: the new router knows 'calendar'"):
        retrain_router(adapters=["calendar", "claim-window"], drop=["calendar"])
    pipeline = add_expert("provider-select", source=source, drop=["claim-window"], margin=0.02)
    drawn = next(run for run in pipeline.steps if run.kind == Run.Kind.GENERATE_DATASET)
    assert drawn.params["adapters"] == ["calendar", "provider-select"]
    assert (pipeline.wish["drop"], pipeline.wish["margin"]) == (["claim-window"], 0.02)


def test_of_an_expert_with_broken_files_nothing_stays(serving: None, source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        add_expert("provider-select", source=source, adapter=tmp_path)
    assert not Adapter.objects.filter(name="provider-select").exists()


def test_negatives_that_nobody_knows_any_more_have_to_be_named(serving: None, source: Path) -> None:
    Run.objects.filter(name="old").update(params={**DRAWN, "negatives": []})
    with pytest.raises(InputError, match="name negatives"):
        add_expert("provider-select", source=source)


def test_the_first_router_needs_two_classes_and_nothing_to_compare_with(source: Path) -> None:
    with pytest.raises(InputError, match="two classes"):
        add_expert("provider-select", source=source)
    make_version(make_adapter("calendar"))
    pipeline = add_expert("provider-select", source=source)
    assert [run.kind for run in pipeline.steps][-1] == Run.Kind.EVALUATE
    assert not any(run.params.get("serving") for run in pipeline.steps)


def test_the_same_again_goes_on_with_the_same_pipeline(serving: None, source: Path) -> None:
    first = add_expert("provider-select", source=source, pipeline="add")
    assert add_expert("provider-select", source=source, pipeline="add") == first
    assert first.runs.count() == 7
    cancel_pipeline(first)
    add_expert("provider-select", source=source, pipeline="add")
    assert {run.status for run in first.steps} == {Status.QUEUED}
    with pytest.raises(InputError, match="exists as another one"):
        reevaluate(pipeline="add")


def test_the_same_again_leaves_a_pipeline_that_has_succeeded_as_it_is(experts: list[str], source: Path) -> None:
    """Also where it has made the first router that serves, which a new one would be compared with."""
    wishes: list[Callable[..., Pipeline]] = [
        lambda **more: add_expert("provider-select", source=source, negatives=["other"], pipeline="add", **more),
        lambda **more: retrain_router(adapters=experts, pipeline="anew", **more),
    ]
    pipelines = [launch(seed=3) for launch in wishes]
    stack = make_stack(make_version(register_adapter("router", kind=Adapter.Kind.ROUTER), tuple(experts)), [])
    Run.objects.update(status=Status.SUCCEEDED)
    Pipeline.objects.update(outcome=Status.SUCCEEDED, verdict="It is live.", promoted=stack)
    Alias.objects.create(name=Alias.Name.CHAMPION, stack=stack)
    for launch, pipeline in zip(wishes, pipelines, strict=True):
        before = pipeline.runs.count()
        again = launch(seed=3)
        assert (again, again.verdict, again.promoted, again.status) == (pipeline, "It is live.", stack, "succeeded")
        assert again.runs.count() == before
        with pytest.raises(InputError, match="exists as another one"):
            launch(seed=4)


def test_the_same_reevaluation_again_is_not_made_again(serving: None) -> None:
    pipeline = reevaluate(pipeline="night")
    Run.objects.update(status=Status.SUCCEEDED)
    Pipeline.objects.update(outcome=Status.SUCCEEDED)
    assert reevaluate(pipeline="night") == pipeline
    with pytest.raises(InputError, match="exists as another one"):
        reevaluate(pipeline="night", fresh_samples=3)


def test_a_name_whose_steps_are_others_is_refused_in_one_sentence(serving: None, source: Path) -> None:
    """Here one with a training, and one that compares with what serves."""
    add_expert("provider-select", source=source, pipeline="add")
    Pipeline.objects.update(wish={"expert": "provider-select", "source": "provider-select", "trained": False})
    with pytest.raises(InputError, match="exists as another one"):
        add_expert("provider-select", source=source, pipeline="add")
    first = reevaluate(pipeline="night", fresh_samples=3)
    first.runs.filter(step=0).update(name="other")
    with pytest.raises(InputError, match="Step 1 of the pipeline 'night' is another one: choose another name"):
        reevaluate(pipeline="night", fresh_samples=3)


def test_pipelines_without_a_name_are_always_new_ones(serving: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of one moment."""
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    launches: list[Callable[[], Pipeline]] = [
        lambda: reevaluate(),
        lambda: launch_expert_pipeline("calendar"),
        lambda: launch_router_pipeline(adapters=["calendar", "claim-window"]),
    ]
    pipelines = [launch() for launch in launches for _ in range(3)]
    assert len({pipeline.pk for pipeline in pipelines}) == 9
    assert all(pipeline.steps[0].name.startswith(pipeline.name) for pipeline in pipelines)
    assert pipelines[-1].name == f"routing_{now:%Y%m%d_%H%M%S}_3"


def test_retraining_reads_the_sources_again(serving: None, samples: dict[str, Path], tmp_path: Path) -> None:
    from datasets_app.services import register_source

    for name in ("calendar", "claim-window", "other"):
        register_source(name, shutil.copytree(samples[name], tmp_path / name))
    rows = (tmp_path / "calendar" / "data.jsonl").read_text().splitlines()
    (tmp_path / "calendar" / "data.jsonl").write_text("\n".join(rows[1:]) + "\n")
    pipeline = retrain_router()
    assert SourceDataset.objects.get(name="calendar").rows == len(rows) - 1
    assert pipeline.steps[0].params["adapters"] == ["calendar", "claim-window"]
    (tmp_path / "other" / "data.jsonl").write_text("nonsense\n")
    with pytest.raises(InputError, match=r"data\.jsonl"):
        retrain_router(pipeline="second")


def test_a_source_that_several_experts_share_is_refused_before_it_is_read(serving: None) -> None:
    shared = make_source("other")
    Adapter.objects.filter(name__in=["calendar", "claim-window"]).update(source=shared)
    with pytest.raises(InputError, match="'claim-window' and 'calendar' have the same screens, those of 'other'"):
        retrain_router()
    assert not Pipeline.objects.exists()


def test_what_serves_is_evaluated_on_what_it_was_promoted_on_and_on_fresh_samples(serving: None) -> None:
    pipeline = reevaluate(fresh_samples=12, seed=99)
    held_out, fresh, _, last = pipeline.steps
    assert (held_out.params["dataset"], held_out.params["serving"], held_out.reuse) == ("old", True, False)
    expected = {"seed": 5, "draw_seed": 99, "held_out_only": True, "samples_per_class": 12, "negatives": ["other"]}
    assert expected.items() <= fresh.params.items()
    assert last.params["dataset"] == fresh.name


def test_by_default_as_many_fresh_samples_are_drawn_as_were_held_out(serving: None) -> None:
    """None where nobody knows what the router has learnt from."""
    pipeline = reevaluate()
    assert [run.kind for run in pipeline.steps] == ["evaluate", "generate_dataset", "preprocess", "evaluate"]
    assert pipeline.steps[1].params["samples_per_class"] == 10
    assert len(reevaluate(fresh_samples=0).steps) == 1
    Run.objects.filter(name="old-train").delete()
    assert len(reevaluate().steps) == 1


def test_without_a_live_router_there_is_nothing_to_evaluate(serving: None) -> None:
    Alias.objects.all().delete()
    with pytest.raises(InputError, match="No router is live"):
        reevaluate()
