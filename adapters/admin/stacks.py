"""Stacks and aliases."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from adapters.models import Alias, Promotion, Stack
from adapters.selectors import sharing, with_members
from datasets_app.admin.base import ReadOnlyAdmin, display, link, links, short

ALIAS_COLOURS = {Alias.Name.CHAMPION.value: "success", Alias.Name.CHALLENGER.value: "warning"}


@admin.register(Stack)
class StackAdmin(ReadOnlyAdmin):
    """Found or made by promoting a router."""

    list_display = ["name", "router_link", "expert_links", "alias_labels", "created_at"]
    list_filter = ["aliases__name"]
    search_fields = ["digest", "router__adapter__name"]
    fields = ["digest", "router_link", "expert_links", "sharing_links", "alias_labels", "evaluated", "created_at"]
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Stack]:
        """With the experts and the aliases."""
        return with_members(super().get_queryset(request))

    @display(description="stack", ordering="digest")
    def name(self, obj: Stack) -> str:
        """The digest."""
        return short(obj.digest)

    @display(description="router", ordering="router")
    def router_link(self, obj: Stack) -> str:
        """The router's version."""
        return link(obj.router)

    @display(description="experts")
    def expert_links(self, obj: Stack) -> str:
        """The experts' versions."""
        return links(obj.experts.all())

    @display(description="continue the router's prefix")
    def sharing_links(self, obj: Stack) -> str:
        """The experts for which the base need not read screenshot and words again."""
        return links(sharing(obj))

    @display(description="aliases", label=ALIAS_COLOURS)
    def alias_labels(self, obj: Stack) -> str | None:
        """Champion, challenger or neither."""
        return ", ".join(alias.name for alias in obj.aliases.all()) or None

    @display(description="evaluations")
    def evaluated(self, obj: Stack) -> str:
        """Newest first."""
        return links(obj.evaluations.select_related("version__adapter"))


@admin.register(Alias)
class AliasAdmin(ReadOnlyAdmin):
    """Moved by promoting a router."""

    list_display = ["label", "stack_link", "router_link", "moved_at"]
    list_select_related = ["stack__router__adapter"]
    fields = ["label", "stack_link", "router_link", "moved_at"]
    readonly_fields = fields

    @display(description="alias", label=ALIAS_COLOURS)
    def label(self, obj: Alias) -> str:
        """Its name."""
        return obj.name

    @display(description="stack")
    def stack_link(self, obj: Alias) -> str:
        """Where it points."""
        return link(obj.stack, short(obj.stack.digest))

    @display(description="router")
    def router_link(self, obj: Alias) -> str:
        """The stack's router."""
        return link(obj.stack.router)


@admin.register(Promotion)
class PromotionAdmin(ReadOnlyAdmin):
    """Every switch of the champion."""

    list_display = [
        "created_at",
        "stack_link",
        "previous_link",
        "evaluation_link",
        "is_rollback",
        "reason",
        "created_by",
    ]
    list_filter = ["is_rollback"]
    list_select_related = [
        "stack__router__adapter",
        "previous__router__adapter",
        "evaluation__version__adapter",
        "created_by",
    ]
    search_fields = ["reason"]
    fields = list_display
    readonly_fields = fields

    @display(description="live")
    def stack_link(self, obj: Promotion) -> str:
        """What went live."""
        return link(obj.stack)

    @display(description="before")
    def previous_link(self, obj: Promotion) -> str:
        """What served until then."""
        return link(obj.previous)

    @display(description="evaluation")
    def evaluation_link(self, obj: Promotion) -> str:
        """The figure it was made on."""
        return link(obj.evaluation)
