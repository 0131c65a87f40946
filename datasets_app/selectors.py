"""Reads over datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from django.db.models import JSONField, Model, QuerySet

from datasets_app.errors import InputError
from datasets_app.models import PreparedDataset, RoutingDataset, SourceDataset

Row = TypeVar("Row", bound=Model)


def without_json(rows: QuerySet[Row], *keep: str) -> QuerySet[Row]:
    """The rows for a list: without their JSON and that of the rows selected with them, which may be some MB each, but
    for the fields `keep`."""
    related = rows.query.select_related
    heavy = _json_fields(rows.model, related if isinstance(related, dict) else {})
    return rows.defer(*(name for name in heavy if name not in keep))


def _json_fields(model: type[Model], related: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for field in model._meta.concrete_fields:
        if isinstance(field, JSONField):
            yield f"{prefix}{field.name}"
        elif field.name in related and field.related_model is not None:
            yield from _json_fields(field.related_model, related[field.name], f"{prefix}{field.name}__")


def get_source(name: str) -> SourceDataset:
    """The source dataset called `name`; InputError that lists what there is."""
    source = SourceDataset.objects.filter(name=name).first()
    if source is None:
        known = ", ".join(SourceDataset.objects.values_list("name", flat=True)) or "none yet"
        raise InputError(f"There is no source dataset {name!r}; registered: {known}.")
    return source


def get_dataset(name: str) -> RoutingDataset | SourceDataset:
    """The routing dataset, or else the source dataset, called `name`; InputError if there is neither."""
    dataset = RoutingDataset.objects.filter(name=name).first() or SourceDataset.objects.filter(name=name).first()
    if dataset is None:
        raise InputError(f"There is no routing or source dataset {name!r}.")
    return dataset


def get_prepared(dataset: RoutingDataset | SourceDataset, base: str) -> PreparedDataset:
    """The newest prepared form of `dataset` for the base `base`; InputError if it was not preprocessed."""
    field = "routing_dataset" if isinstance(dataset, RoutingDataset) else "source_dataset"
    prepared = PreparedDataset.objects.filter(**{field: dataset}, base=base).first()
    if prepared is None:
        raise InputError(f"Dataset {dataset.name!r} is not preprocessed for this base model: preprocess it first.")
    return prepared
