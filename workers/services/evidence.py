"""What must not be deleted, whatever its age."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Model, Q, QuerySet

from adapters.models import Adapter, AdapterVersion, Alias, Promotion, Stack
from datasets_app.models import PreparedDataset, RoutingDataset
from workers.models import Pipeline, Run
from workers.states import ACTIVE


def evidence() -> QuerySet[Run]:
    """Runs that made or evaluated what serves or has served, with its experts, or the current version of an adapter,
    and every other run of their pipelines: what the verdict was founded on. Of re-evaluations only those that led to a
    rollback."""
    stacks = Stack.objects.filter(_in(Promotion.objects.values("stack")) | _in(Alias.objects.values("stack")))
    versions = AdapterVersion.objects.filter(
        _in(stacks.values("router"))
        | _in(stacks.filter(experts__isnull=False).values("experts"))
        | _in(Adapter.objects.filter(current__isnull=False).values("current"))
    )
    figures = Promotion.objects.filter(evaluation__isnull=False).values("evaluation")
    # Each by an index of its own: together they would read every run.
    made = Run.objects.filter(
        _in(_runs(adapter_version__in=versions))
        | _in(_runs(evaluation__in=figures))
        | _in(_runs(evaluation__version__in=versions).exclude(pipeline__kind=Pipeline.Kind.REEVALUATE))
        | _in(_runs(pipeline__promoted__isnull=False))
    ).order_by()
    kept = Run.objects.filter(_in(made.values("pk")) | Q(pipeline__in=made.values("pipeline"))).order_by()
    return Run.objects.filter(_in(kept.values("pk")) | _in(kept.values("reused_from"))).order_by()


def datasets_in_use(since: datetime) -> dict[type[Model], set[int]]:
    """Rows of routing and prepared datasets that something refers to: evidence, and every run under way or not long
    over."""
    young = Run.objects.filter(Q(status__in=ACTIVE) | Q(finished_at__gte=since) | Q(created_at__gte=since)).order_by()
    named = {row for runs in (young, evidence()) for row in runs.values_list("name", "params__dataset")}
    names = {str(name) for row in named for name in row if name}
    holders = Run.objects.filter(routing_dataset__isnull=False).order_by().values_list("name", "routing_dataset")
    routing = {pk for name, pk in holders if name in names}
    routing |= {pk for name, pk in RoutingDataset.objects.values_list("name", "pk") if name in names}
    prepared = PreparedDataset.objects.values_list("pk", "routing_dataset", "source_dataset__name")
    return {
        RoutingDataset: routing,
        PreparedDataset: {pk for pk, dataset, source in prepared if dataset in routing or source in names},
    }


def _in(keys: QuerySet[Any, Any]) -> Q:
    return Q(pk__in=keys)


def _runs(**fields: Any) -> QuerySet[Run, Any]:
    return Run.objects.filter(**fields).order_by().values("pk")
