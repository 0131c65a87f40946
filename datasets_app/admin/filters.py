"""Filters of lists that ask the database for nothing but the rows: Django's own collect the values from all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import FieldTextFilter, RangeDateTimeFilter

CREATED = ("created_at", RangeDateTimeFilter)


def typed(field: str) -> tuple[str, Any]:
    """Rows whose text `field` holds what is typed."""
    return field, FieldTextFilter


def one_of(field: str, values: Callable[[], Iterable[str]]) -> type[admin.SimpleListFilter]:
    """Rows whose `field` has one of the values, which the code knows."""

    class OneOf(admin.SimpleListFilter):
        title = field
        parameter_name = field

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [(value, value) for value in values()]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            return queryset.filter(**{field: self.value()}) if self.value() is not None else queryset

    return OneOf
