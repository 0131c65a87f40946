"""Adapter versions."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html

from adapters.admin.adapters import KIND_COLOURS
from adapters.models import AdapterVersion, Evaluation, Stack
from datasets_app.admin.base import ReadOnlyAdmin, display, link, links, pretty
from datasets_app.admin.filters import CREATED


@admin.register(AdapterVersion)
class AdapterVersionAdmin(ReadOnlyAdmin):
    """Immutable files, with their lineage."""

    list_display = ["__str__", "kind_label", "rank", "size_label", "short_digest", "best", "created_at"]
    list_filter = ["adapter__kind", "adapter", CREATED]
    list_json = ["facts"]
    list_select_related = ["adapter"]
    search_fields = ["adapter__name", "digest"]
    fields = [
        "adapter_link",
        "number",
        "digest",
        "size_label",
        "evaluated",
        "in_stacks",
        "facts_text",
        "card_text",
        "created_at",
    ]
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[AdapterVersion]:
        """Each with its newest evaluation."""
        newest = Prefetch("evaluations", Evaluation.objects.all()[:1], to_attr="newest")
        return super().get_queryset(request).prefetch_related(newest)

    @display(description="kind", ordering="adapter__kind", label=KIND_COLOURS)
    def kind_label(self, obj: AdapterVersion) -> str:
        """Expert or router."""
        return obj.adapter.kind

    @display(description="rank")
    def rank(self, obj: AdapterVersion) -> int | None:
        """Of the LoRA matrices."""
        rank: int | None = obj.facts.get("rank")
        return rank

    @display(description="size", ordering="size")
    def size_label(self, obj: AdapterVersion) -> str:
        """Of the files."""
        return filesizeformat(obj.size)

    @display(description="newest evaluation")
    def best(self, obj: AdapterVersion) -> str:
        """With its interval."""
        evaluation = next(iter(obj.newest), None)  # type: ignore[attr-defined]  # by `get_queryset`
        if evaluation is None:
            return link(None)
        return link(evaluation, f"{evaluation.accuracy:.1%} ({evaluation.ci_low:.1%}–{evaluation.ci_high:.1%})")

    @display(description="adapter")
    def adapter_link(self, obj: AdapterVersion) -> str:
        """Whose version it is."""
        return link(obj.adapter)

    @display(description="evaluations")
    def evaluated(self, obj: AdapterVersion) -> str:
        """Newest first."""
        return links(obj.evaluations.select_related("version__adapter"))

    @display(description="stacks")
    def in_stacks(self, obj: AdapterVersion) -> str:
        """As router or as expert."""
        return links(Stack.objects.filter(Q(router=obj) | Q(experts=obj)).distinct().select_related("router__adapter"))

    @display(description="files")
    def facts_text(self, obj: AdapterVersion) -> str:
        """Read from the files."""
        return pretty(obj.facts)

    @display(description="card")
    def card_text(self, obj: AdapterVersion) -> str:
        """What it was trained with, or what is assumed of that."""
        return format_html("{}{}", obj.note, pretty(obj.card))
