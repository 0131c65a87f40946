"""Every list of the API and of the admin asks the database little, however many rows there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from rest_framework.generics import ListAPIView

from adapters.models import Adapter, Alias, Evaluation, Promotion, Stack
from tests.cast import (
    make_adapter,
    make_champion,
    make_evaluation,
    make_prepared,
    make_routing_dataset,
    make_stack,
    make_version,
)
from tests.many import add_rows

OURS = sorted(
    (model for model in admin.site._registry if model._meta.app_label in {"adapters", "datasets_app", "workers"}),
    key=lambda model: model._meta.label,
)
NO_LIST_READS = {"report", "spec", "summary"}
LISTS_THAT_SHOW_MANIFESTS = {"/api/v1/adapters/router-0/versions/", "/admin/adapters/adapterversion/"}

pytestmark = pytest.mark.django_db


@pytest.fixture
def superuser(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def api_lists(resolver: URLResolver, prefix: str = "/") -> Iterator[str]:
    for entry in resolver.url_patterns:
        path = prefix + re.sub(r"<name:\w+>", "router-0", str(entry.pattern))
        if isinstance(entry, URLResolver):
            yield from api_lists(entry, path)
        elif isinstance(entry, URLPattern) and issubclass(getattr(entry.callback, "cls", object), ListAPIView):
            yield path


API_LISTS = sorted(api_lists(get_resolver()))
ADMIN_LISTS = [reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") for model in OURS]


def asked(client: Client, url: str) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(url).status_code == 200
    return [query["sql"] for query in queries]


def test_there_are_lists_to_look_at() -> None:
    assert len(API_LISTS) >= 9
    assert len(ADMIN_LISTS) >= 13


@pytest.mark.parametrize("url", [*API_LISTS, *ADMIN_LISTS])
def test_a_list_asks_no_more_for_many_rows_than_for_few(superuser: Client, url: str) -> None:
    make_champion()
    add_rows(range(2))
    asked(superuser, url)  # what is read once a process
    few = asked(superuser, url)
    add_rows(range(2, 6))
    many = asked(superuser, url)
    assert len(many) == len(few)
    for sql in many:
        columns = set(re.findall(r'"(\w+)"', sql.partition(" FROM ")[0]))
        assert not columns & NO_LIST_READS, sql
        assert url in LISTS_THAT_SHOW_MANIFESTS or not columns & {"card", "facts"}, sql
        assert "DISTINCT" not in sql, sql


def add_relations(stack: Stack) -> None:
    """More of what the pages of the stack, and of what belongs to it, link to."""
    Evaluation.objects.filter(pk=make_evaluation(stack.router).pk).update(stack=stack)
    Promotion.objects.create(stack=stack, evaluation=make_evaluation(stack.router))
    for version in (stack.router, *stack.experts.all()):
        make_version(version.adapter)
    other = make_adapter(f"other-{Adapter.objects.count()}")
    make_stack(stack.router, [make_version(other)])
    make_stack(make_version(stack.router.adapter), list(stack.experts.all()))
    dataset = make_routing_dataset(f"routing-{other.name}")
    dataset.sources.set([expert.adapter.source for expert in stack.experts.all()])
    make_prepared(dataset)


def pages() -> dict[str, Callable[[], Model]]:
    return {
        "stack": lambda: Stack.objects.order_by("pk")[0],
        "alias": lambda: Alias.objects.all()[0],
        "version": lambda: Stack.objects.order_by("pk")[0].router,
        "adapter": lambda: Stack.objects.order_by("pk")[0].router.adapter,
        "base": lambda: Stack.objects.order_by("pk")[0].router.adapter.base,
        "source": lambda: Adapter.objects.get(name="calendar").source,
    }


@pytest.mark.parametrize("name", pages())
def test_a_page_asks_no_more_for_many_relations_than_for_few(superuser: Client, name: str) -> None:
    stack = make_champion()
    for _ in range(2):
        add_relations(stack)
    row = pages()[name]()
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    asked(superuser, url)  # what is read once a process
    few = asked(superuser, url)
    for _ in range(4):
        add_relations(stack)
    many = asked(superuser, url)
    assert len(many) == len(few), "\n".join(many)
    assert len(set(many)) == len(many), "\n".join(many)


def test_pages_link_to_a_bounded_number_of_rows(superuser: Client) -> None:
    stack = make_champion()
    for _ in range(60):
        make_evaluation(stack.router)
    page: Any = superuser.get(reverse("admin:adapters_adapterversion_change", args=[stack.router.pk]))
    assert page.content.decode().count("/admin/adapters/evaluation/") <= 55
