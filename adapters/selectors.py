"""Reads over adapters."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Prefetch, QuerySet

from adapters.models import Adapter, AdapterVersion, Alias, Evaluation, Promotion, Stack
from adapters.stack_spec import AdapterRef, StackSpec
from datasets_app.errors import InputError
from datasets_app.selectors import without_json


def get_adapter(name: str) -> Adapter:
    """The adapter called `name`; InputError that lists what there is."""
    adapter = Adapter.objects.select_related("base", "source", "current").filter(name=name).first()
    if adapter is None:
        known = ", ".join(Adapter.objects.values_list("name", flat=True)) or "none yet"
        raise InputError(f"There is no adapter {name!r}; registered: {known}.")
    return adapter


def reference(version: AdapterVersion) -> AdapterRef:
    """The version as an engine knows it."""
    return AdapterRef(name=version.adapter.name, digest=version.digest)


def stack_spec(router: AdapterVersion, experts: Iterable[AdapterVersion]) -> StackSpec:
    """The stack as an engine knows it; its digest does not depend on the order of `experts`."""
    references = sorted((reference(expert) for expert in experts), key=lambda ref: ref.name)
    return StackSpec(base=router.adapter.base.fingerprint, router=reference(router), experts=tuple(references))


def spec_of(stack: Stack) -> StackSpec:
    """The recorded stack as an engine knows it."""
    return stack_spec(stack.router, stack.experts.select_related("adapter"))


def get_stack(digest: str) -> Stack:
    """The stack of that digest; InputError if there is none."""
    stack = Stack.objects.filter(digest=digest).first()
    if stack is None:
        raise InputError(f"There is no stack {digest!r}.")
    return stack


def with_members(stacks: QuerySet[Stack]) -> QuerySet[Stack]:
    """The stacks with aliases, router and experts, without their cards."""
    members = without_json(AdapterVersion.objects.select_related("adapter"))
    return stacks.prefetch_related("aliases", Prefetch("router", members), Prefetch("experts", members))


def sharing(stack: Stack) -> list[AdapterVersion]:
    """The experts of the stack that go on from what the base has read for its router."""
    prefix = stack.router.prefix
    return [expert for expert in stack.experts.all() if prefix and expert.prefix == prefix]


def champion() -> Stack | None:
    """The stack that serves, if any does."""
    alias = Alias.objects.select_related("stack__router__adapter__base").filter(name=Alias.Name.CHAMPION).first()
    return alias.stack if alias else None


def baseline_of(stack: Stack) -> Evaluation | None:
    """The evaluation that the stack was promoted on; for one promoted without, the first that its router got."""
    made = Promotion.objects.filter(stack=stack, evaluation__isnull=False).order_by("-id").first()
    return made.evaluation if made else Evaluation.objects.filter(version=stack.router).order_by("id").first()
