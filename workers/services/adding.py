"""Pipelines of one click: what serves learns a class more, or learns anew, and goes live if it is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from adapters.models import Adapter
from adapters.models.adapter import NONE_LABEL
from adapters.promotion.criteria import check_drop, promotion_criteria
from adapters.selectors import champion
from adapters.services import check_adapter, configured_base, record_version, register_adapter, store_files
from datasets_app.errors import InputError, naming
from datasets_app.models import SourceDataset
from datasets_app.names import check_name
from datasets_app.places import is_place
from datasets_app.services import read_source, record_source, register_source
from workers.compute import get_compute
from workers.kinds.fetch import check_place
from workers.kinds.generate_dataset import Params as DrawParams
from workers.kinds.generate_dataset import check as check_drawing
from workers.kinds.generate_dataset import check_classes
from workers.kinds.preprocess import check_pixels
from workers.kinds.train import check_config
from workers.models import Pipeline, Run
from workers.services.launching import validate
from workers.services.lineage import Lineage, serving_lineage
from workers.services.pipelines import (
    Plan,
    Step,
    asked,
    expert_steps,
    fetch_steps,
    fulfilled,
    launch_plan,
    router_steps,
)


def add_expert(
    name: str,
    *,
    source: str | Path,
    adapter: str | Path | None = None,
    card: dict[str, Any] | None = None,
    live: str = Pipeline.Live.IF_BETTER,
    margin: float | None = None,
    floor: float | None = None,
    drop: Sequence[str] | None = None,
    negatives: Sequence[str] | None = None,
    samples_per_class: int | None = None,
    seed: int | None = None,
    max_pixels: int | None = None,
    train: dict[str, Any] | None = None,
    train_expert: dict[str, Any] | None = None,
    pipeline: str | None = None,
    backend: str | None = None,
    user: User | None = None,
) -> Pipeline:
    """Add the expert `name` to what serves: check and register its files, train and evaluate a router that knows it,
    too, and put that live if the promotion rule approves of it (`live`: "if-better"), or leave that to people
    ("never"). `margin` and `floor` are the rule's, `drop` names classes that serve and that the new router is to lose.

    `source` is the expert's source dataset, a folder or a registered name; `adapter` the folder of its files, without
    which the expert is trained first, as an activated LoRA if the router is one. Either folder may be `volume:path`:
    the first steps fetch it. `card` holds fields of the card of files that bring none. What is not given stays as it
    was for the serving router; `max_pixels` are those that the router sees of a screenshot. InputError names what is
    wrong with any of it, before anything is queued.
    """
    check_name(name, "adapter name")
    policy = _policy(live)
    promotion_criteria(margin, floor)
    if backend:
        get_compute(backend)  # InputError where there is none
    if card is not None and adapter is None:
        raise InputError("card: an expert that is trained gets its own; name the folder of its files, or leave it out.")
    known = SourceDataset.objects.filter(name=str(source)).first()
    label = known.name if known else name
    router = asked(
        negatives=negatives, samples_per_class=samples_per_class, seed=seed, max_pixels=max_pixels, train=train
    )
    wish = asked(expert=name, source=label, trained=adapter is None, card=card, train_expert=train_expert) | router
    wish |= asked(margin=margin, floor=floor, drop=drop)
    if pipeline and (done := fulfilled(Pipeline.Kind.ADD_EXPERT, check_name(pipeline, "pipeline name"), policy, wish)):
        return done
    before = serving_lineage()
    pixels = _pixels(before, max_pixels)
    labels = tuple(dict.fromkeys((*(label for label in before.labels if label not in (drop or ())), name)))
    drawn = _drawn(before, labels, _negatives(negatives, drop), samples_per_class, seed)
    _check_classes(drawn, drop or ())
    drawn["sources"] = {label: other for label, other in drawn.get("sources", {}).items() if label != name}
    router_train = before.train | (train or {})
    check_config(router_train, "train")
    like_router = {"activated": True} if router_train.get("activated") else {}
    expert_train = like_router | (train_expert or {})
    check_config(expert_train, "train_expert")
    params = DrawParams.model_validate(validate(Run.Kind.GENERATE_DATASET, drawn, check_now=False))
    fetches, register = _bring(name, known, source, adapter, card, lambda row: check_drawing(params, {name: row}))
    is_shared = router_train.get("activated") and expert_train.get("activated")

    def steps(stem: str) -> list[Step]:
        trained = expert_steps(stem, "-expert", name, label, expert_train, drawn, pixels if is_shared else None)
        return [
            *fetch_steps(fetches),
            *(trained if adapter is None else []),
            *router_steps(stem, drawn, before.router, router_train, pixels, stack=True),
            *_serving_step(stem),
        ]

    plan = Plan(Pipeline.Kind.ADD_EXPERT, pipeline, f"add-{name}", steps, policy, wish, backend)
    with transaction.atomic():
        register()
        return launch_plan(plan, user)


def retrain_router(
    *,
    live: str = Pipeline.Live.IF_BETTER,
    margin: float | None = None,
    floor: float | None = None,
    drop: Sequence[str] | None = None,
    adapters: Sequence[str] | None = None,
    negatives: Sequence[str] | None = None,
    samples_per_class: int | None = None,
    seed: int | None = None,
    max_pixels: int | None = None,
    train: dict[str, Any] | None = None,
    pipeline: str | None = None,
    backend: str | None = None,
    user: User | None = None,
) -> Pipeline:
    """Train the serving router anew, from its sources as they are now, and put it live if the promotion rule approves.

    What is not given stays as it was; `margin`, `floor` and `drop` as for `add_expert`. InputError if a source cannot
    be read any more, or a class that serves would be lost that `drop` does not name.
    """
    policy = _policy(live)
    promotion_criteria(margin, floor)
    wish = asked(
        adapters=adapters,
        negatives=negatives,
        samples_per_class=samples_per_class,
        seed=seed,
        max_pixels=max_pixels,
        train=train,
        margin=margin,
        floor=floor,
        drop=drop,
    )
    if pipeline and (
        done := fulfilled(Pipeline.Kind.RETRAIN_ROUTER, check_name(pipeline, "pipeline name"), policy, wish)
    ):
        return done
    before = serving_lineage()
    pixels = _pixels(before, max_pixels)
    router_train = before.train | (train or {})
    check_config(router_train, "train")
    labels = tuple(adapters or (label for label in before.labels if label not in (drop or ())))
    drawn = _drawn(before, labels, _negatives(negatives, drop), samples_per_class, seed)
    _check_classes(drawn, drop or ())
    check_classes(DrawParams.model_validate(validate(Run.Kind.GENERATE_DATASET, drawn, check_now=False)))
    fetches = []
    for row in _sources(drawn):
        if row.origin:
            fetches.append(_fetch_of(row.name, row.origin, row.format))
        else:
            register_source(row.name, row.path, format=row.format)
    validate(Run.Kind.GENERATE_DATASET, drawn)

    def steps(stem: str) -> list[Step]:
        router = router_steps(stem, drawn, before.router, router_train, pixels, stack=True)
        return [*fetch_steps(fetches), *router, *_serving_step(stem)]

    stem = f"retrain-{before.router}"
    return launch_plan(Plan(Pipeline.Kind.RETRAIN_ROUTER, pipeline, stem, steps, policy, wish, backend), user)


def _negatives(negatives: Sequence[str] | None, drop: Sequence[str] | None) -> Sequence[str] | None:
    """No negatives where their class is to be dropped."""
    return [] if negatives is None and NONE_LABEL in (drop or ()) else negatives


def _check_classes(drawn: dict[str, Any], drop: Sequence[str]) -> None:
    """InputError unless the new router will know every class that serves but those to drop, and none of these."""
    serving = champion()
    labels = [*drawn["adapters"], *([NONE_LABEL] if drawn["negatives"] else [])]
    check_drop(drop, serving, labels)
    lost = set(serving.router.card["labels"]) - {*labels, *drop} if serving else set()
    if lost:
        names = ", ".join(sorted(lost))
        raise InputError(f"drop: the new router would not know {names}, which serves: name it there to remove it.")


def _policy(live: str) -> str:
    if live not in Pipeline.Live.values:
        raise InputError(f"live: {live!r} is none of {', '.join(Pipeline.Live.values)}.")
    return live


def _pixels(before: Lineage, given: int | None) -> int | None:
    """The most that the new router sees of a screenshot: what is given, or what the serving one does."""
    pixels = before.max_pixels if given is None else given
    check_pixels(pixels)
    return pixels


def _drawn(
    before: Lineage,
    labels: tuple[str, ...],
    negatives: Sequence[str] | None,
    samples_per_class: int | None,
    seed: int | None,
) -> dict[str, Any]:
    """Parameters of the routing dataset: as before, save for what is given."""
    serving = champion()
    knows_none = serving is not None and NONE_LABEL in serving.router.card["labels"]
    if knows_none and negatives is None and not before.drawn.get("negatives"):
        raise InputError("The serving router knows the class 'none', but not from what it was drawn: name negatives.")
    given = {"samples_per_class": samples_per_class, "seed": seed}
    kept = {**before.drawn, **{key: value for key, value in given.items() if value is not None}}
    kept["negatives"] = list(before.drawn.get("negatives", []) if negatives is None else negatives)
    kept["sources"] = {label: name for label, name in kept.get("sources", {}).items() if label in labels}
    return {"adapters": list(labels), **kept}


def _sources(drawn: dict[str, Any]) -> list[SourceDataset]:
    """What the routing dataset is drawn from, each once."""
    others = drawn["sources"]
    own = Adapter.objects.select_related("source").filter(name__in=[n for n in drawn["adapters"] if n not in others])
    named = SourceDataset.objects.filter(name__in=[*others.values(), *drawn["negatives"]])
    rows = [*(adapter.source for adapter in own if adapter.source is not None), *named]
    return list({row.pk: row for row in rows}.values())


def _fetch_of(name: str, origin: str, format: str = "llava", expert: str | None = None) -> dict[str, Any]:
    """Parameters of the fetch of a source dataset."""
    return {"what": "source", "name": name, "place": origin, "format": format, "expert": expert}


def _bring(
    name: str,
    known: SourceDataset | None,
    source: str | Path,
    files: str | Path | None,
    card: dict[str, Any] | None,
    check: Callable[[SourceDataset], None],
) -> tuple[list[dict[str, Any]], Callable[[], None]]:
    """Read the source dataset, which may be `known`, `check` the row that it will be, and store the adapter's files.
    What lies on a volume is fetched by runs: their parameters, and what registers the rest.
    """
    label, place, format = (known.name, known.origin or known.path, known.format) if known else (name, source, "llava")
    check_adapter(name, Adapter.Kind.EXPERT)
    fetches: list[dict[str, Any]] = []
    if is_place(place):
        with naming("source"):
            check_place(str(place))
        fetches.append(_fetch_of(label, str(place), format, expert=name))
    if is_place(files):
        with naming("adapter"):
            check_place(str(files))
        fetches.append({"what": "adapter", "name": name, "place": str(files), "card": card})
    for params in fetches:
        validate(Run.Kind.FETCH, params)
    read = None
    check(SourceDataset(name=label, path=str(place)))  # before the folder is read, which takes long
    if not is_place(place):
        with naming("source"):
            read = read_source(label, place, format=format)
        check(SourceDataset(name=label, path=str(read[0]), screens=read[1].screens))
    stored = None
    if files is not None and not is_place(files):
        with naming("adapter"):
            stored = store_files(files, Adapter.Kind.EXPERT, configured_base(), card=card)

    def register() -> None:
        row = None
        if read is not None:
            folder, facts = read
            row = record_source(label, folder, format=format, facts=facts)
        adapter = register_adapter(name, source=row)
        if stored is not None:
            record_version(adapter, stored)

    return fetches, register


def _serving_step(stem: str) -> list[Step]:
    """The serving router on the same held-out samples, where there is one to compare with."""
    if champion() is None:
        return []
    return [Step(Run.Kind.EVALUATE, "-serving", {"serving": True, "dataset": stem, "stack": True})]
