"""What a job or a pipeline will take, said before it is launched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from django.conf import settings
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workers.compute import get_compute
from workers.kinds import HERE
from workers.models import Pipeline, Run
from workers.services.money import estimate, together

RUNS = {kind.value: (kind.value,) for kind in Run.Kind}
ROUTER = ("generate_dataset", "preprocess", "train", "evaluate")
PIPELINES = {
    "add_expert, with its files": (*ROUTER, "evaluate"),
    "add_expert, which is trained first": ("preprocess", "train", *ROUTER, "evaluate"),
    Pipeline.Kind.RETRAIN_ROUTER.value: (*ROUTER, "evaluate"),
    Pipeline.Kind.REEVALUATE.value: ("evaluate", "generate_dataset", "preprocess", "evaluate"),
    Pipeline.Kind.ROUTER.value: ROUTER,
}
"""The steps that cost something, by what is launched."""


def expectation(kinds: Mapping[str, Sequence[str]]) -> SafeString:
    """A line for each, with what it will take on each backend that is set up."""
    each = cache(estimate)
    usable = [name for name in settings.COMPUTE if not get_compute(name).missing()]

    def lines(steps: Sequence[str]) -> Iterator[str]:
        for backend in usable:
            if any(HERE.get(kind, backend) == backend for kind in steps):
                yield f"on {backend} {together(each(kind, HERE.get(kind, backend)) for kind in steps)}"

    listed = format_html_join("", "<br>{}: {}", ((name, "; ".join(lines(steps))) for name, steps in kinds.items()))
    return format_html("What it will take, going by the last runs:{}", listed)
