"""Which margin the data of a router can show, said before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adapters.promotion.criteria import promotion_criteria
from adapters.promotion.statistics import margin_shown, samples_needed
from datasets_app.errors import InputError
from datasets_app.models import SourceDataset
from workers.kinds.generate_dataset import Params, classes, screens_of
from workers.models import Pipeline, Run
from workers.recipes.sizing import SAMPLES, counts, held_out


@dataclass(frozen=True)
class ClassSize:
    """The different screens of a class, how many of them are held out to evaluate on, and the smallest margin that so
    many can show; None where the screens are not counted."""

    label: str
    screens: int | None
    held_out: int | None
    margin: float | None
    asked: float
    """The margin that the promotion rule asks for."""

    def __str__(self) -> str:
        if self.screens is None or self.held_out is None or self.margin is None:
            return f"{self.label}: its different screens are counted when they are drawn"
        words = f"{self.label}: {self.held_out} of {self.screens} different screens are held out"
        shown = f"{words}, which can show a margin of {100 * self.margin:.1f} points"
        if self.margin <= self.asked:
            return shown
        return f"{shown}; {100 * self.asked:g} points take {samples_needed(self.asked)}"


def sizes_of(pipeline: Pipeline) -> list[ClassSize]:
    """Of each class of the router that the pipeline trains; none where it draws no data, or its sources are gone."""
    drawn = next((run for run in pipeline.steps if run.kind == Run.Kind.GENERATE_DATASET), None)
    if drawn is None:
        return []
    params = Params.model_validate(drawn.params)
    try:
        found = screens_of(classes(params, {}))
    except InputError:
        return []
    asked = promotion_criteria(pipeline.wish.get("margin")).margin
    return [_size(label, screens, params, asked) for label, screens in found.items()]


def source_sizes(sources: Iterable[SourceDataset]) -> list[ClassSize]:
    """What each source would hold out by default, were it a class of its own."""
    params = Params(adapters=("any",))
    asked = promotion_criteria().margin
    return [_size(source.name, source.screens, params, asked) for source in sources]


def _size(label: str, screens: int | None, params: Params, asked: float) -> ClassSize:
    if screens is None:
        return ClassSize(label, None, None, None, asked)
    side = held_out(screens) if params.split is None else round(params.split[-1] * screens)
    number = min(side, _asked(params))
    return ClassSize(label, screens, number, margin_shown(number), asked)


def _asked(params: Params) -> int:
    samples = params.samples_per_class or SAMPLES
    if params.held_out_only:
        return samples
    return counts(samples)["eval"] if params.split is None else round(params.split[-1] * samples)
