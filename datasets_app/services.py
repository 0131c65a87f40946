"""Every change to datasets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.db import transaction

from datasets_app.errors import InputError
from datasets_app.formats import SourceFacts, inspect_source
from datasets_app.models import PreparedDataset, RoutingDataset, SourceDataset
from datasets_app.names import check_name
from datasets_app.paths import existing_folder
from datasets_app.places import Place, is_place


def register_source(name: str, path: str | Path, *, format: str = "llava") -> SourceDataset:
    """Register the source dataset in folder `path`, or register it anew if its files have changed.

    Reads every row. InputError names the file and line of the first that is wrong.
    """
    folder, facts = read_source(name, path, format=format)
    return record_source(name, folder, format=format, facts=facts)


def read_source(name: str, path: str | Path, *, format: str = "llava") -> tuple[Path, SourceFacts]:
    """Read every row of the source dataset in `path`, for `record_source`: its folder, and what is in it.

    It may take long: to be called before a transaction, in which nobody else could write.
    """
    check_name(name, "source dataset name")
    if is_place(path):
        place = Place.parse(str(path))
        raise InputError(f"{place} lies on a volume: a run of kind fetch brings it here and registers it.")
    folder = existing_folder(path, "The source dataset")
    counted = dict(SourceDataset.objects.exclude(screens=None).values_list("digest", "screens"))
    try:
        return folder, inspect_source(folder, format, counted)
    except OSError as error:
        raise InputError(f"The source dataset {folder.name!r} cannot be read: {error.strerror}.") from error


def record_source(name: str, folder: Path, *, format: str, facts: SourceFacts, origin: str = "") -> SourceDataset:
    """Record a source dataset whose rows have been read; `origin` is where on a volume it was fetched from."""
    row = {"path": str(folder), "format": format, "origin": origin, **asdict(facts)}
    source, _ = SourceDataset.objects.update_or_create(name=name, defaults=row)
    return source


def record_routing_dataset(
    name: str, folder: Path, *, digest: str, metadata: dict[str, Any], sources: list[SourceDataset]
) -> RoutingDataset:
    """Record a generated routing dataset; a repeated call with the same content changes nothing."""
    with transaction.atomic():
        dataset, created = RoutingDataset.objects.get_or_create(
            name=name, defaults={"path": str(folder), "digest": digest, "metadata": metadata}
        )
        if dataset.digest != digest:
            raise InputError(f"Routing dataset {name!r} exists with other content: choose another name.")
        if created:
            dataset.sources.set(sources)
    return dataset


def record_prepared(
    dataset: RoutingDataset | SourceDataset, folder: Path, *, base: str, digest: str, stats: dict[str, Any]
) -> PreparedDataset:
    """Record what `preprocess` made of `dataset` for the base with fingerprint `base`."""
    of = {"routing_dataset" if isinstance(dataset, RoutingDataset) else "source_dataset": dataset}
    prepared, _ = PreparedDataset.objects.get_or_create(
        path=str(folder), defaults={**of, "base": base, "digest": digest, "stats": stats}
    )
    return prepared
