"""How the serving router came to be, for its successor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from adapters.backbone.spec import fingerprint, pixel_budget
from adapters.models import Adapter, AdapterVersion
from adapters.models.adapter import NONE_LABEL
from adapters.selectors import champion
from adapters.services import base_spec
from datasets_app.errors import InputError
from datasets_app.models import RoutingDataset
from workers.models import Run
from workers.selectors import find_dataset

KEPT = ("negatives", "sources", "samples_per_class", "split", "seed", "system", "human")


@dataclass(frozen=True)
class Lineage:
    """How a router came to be, so that its successor differs in what is meant to differ only.

    `labels` are the experts that it may name, `drawn` the parameters of its routing dataset, `max_pixels` those it sees
    of a screenshot (None: what its base does), and `held_out` is how many samples of each class are held out.
    """

    router: str = "router"
    labels: tuple[str, ...] = ()
    drawn: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    max_pixels: int | None = None
    held_out: int = 0


def serving_lineage() -> Lineage:
    """Of the serving router; where none serves, every expert that could be routed to is a class."""
    serving = champion()
    if serving is None:
        ready = Adapter.objects.filter(kind=Adapter.Kind.EXPERT, source__isnull=False, current__isnull=False)
        return Lineage(labels=tuple(ready.values_list("name", flat=True)))
    return lineage_of(serving.router)


def lineage_of(router: AdapterVersion) -> Lineage:
    """From the runs that made it; of imported files only the labels are known, and whether they are activated."""
    way = {"activated": True} if router.card.get("invocation") else {}
    labels = tuple(label for label in router.card["labels"] if label != NONE_LABEL)
    pixels = _own_pixels(router)
    trained = router.runs.filter(kind=Run.Kind.TRAIN).order_by("id").first()
    if trained is None:
        return Lineage(router.adapter.name, labels, train=way, max_pixels=pixels)
    config = trained.params["config"]
    try:
        dataset = find_dataset(trained.params["dataset"])
    except InputError:
        return Lineage(router.adapter.name, labels, train=config, max_pixels=pixels)
    made = Run.objects.filter(kind=Run.Kind.GENERATE_DATASET, routing_dataset__name=dataset.name).last()
    drawn = {key: made.params[key] for key in KEPT if made.params.get(key) is not None} if made else {}
    counts = dataset.metadata.get("counts", {}).get("eval", {}) if isinstance(dataset, RoutingDataset) else {}
    return Lineage(router.adapter.name, labels, drawn, config, pixels, min(counts.values(), default=0))


def _own_pixels(router: AdapterVersion) -> int | None:
    """The most pixels that it sees of a screenshot, None if that is what its base does."""
    own: int | None = router.card.get("max_pixels")
    is_usual = own == pixel_budget(base_spec())[1]
    return None if is_usual or router.card.get("base") != fingerprint(base_spec()) else own
