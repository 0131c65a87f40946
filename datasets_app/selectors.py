"""Reads over datasets."""

from __future__ import annotations

from datasets_app.errors import InputError
from datasets_app.models import PreparedDataset, RoutingDataset, SourceDataset


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
