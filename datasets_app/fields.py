"""Columns of paths: what lies in the data folder is stored relative to it, so that the folder can be moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models

MARK = "{data}/"
"""Begins such a path among the other texts of a JSON column."""

BATCH = 500


def relative(path: str) -> str:
    """The path as stored: relative to the data folder if it lies there, else as it is."""
    root = Path(settings.DATA_ROOT)
    return str(Path(path).relative_to(root)) if path and Path(path).is_relative_to(root) else path


def absolute(path: str) -> str:
    """The stored path as a path of this machine."""
    return str(Path(settings.DATA_ROOT, path)) if path else path


def _marked(text: str) -> str:
    inside = relative(text) if text.startswith("/") else text
    return text if inside == text else f"{MARK}{inside}"


def _unmarked(text: str) -> str:
    return absolute(text.removeprefix(MARK)) if text.startswith(MARK) else text


def _texts(change: Callable[[str], str], value: Any) -> Any:
    """The value with every text in it changed, except keys."""
    if isinstance(value, dict):
        return {key: _texts(change, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(change, item) for item in value]
    return change(value) if isinstance(value, str) else value


class DataPathField(models.CharField):  # type: ignore[type-arg]
    """An absolute path."""

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        """Absolute."""
        return value if value is None else absolute(value)

    def get_prep_value(self, value: Any) -> Any:
        """Relative; also what is looked for."""
        value = super().get_prep_value(value)
        return relative(value) if isinstance(value, str) else value


class DataPathsField(models.JSONField):
    """JSON in which texts may be absolute paths."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """With absolute paths."""
        return _texts(_unmarked, super().from_db_value(value, expression, connection))

    def get_prep_value(self, value: Any) -> Any:
        """With relative ones; also what is looked for."""
        return _texts(_marked, super().get_prep_value(value))


def store_again(model: Any, field: str, change: Callable[[Any], Any] = lambda value: value) -> None:
    """Write the field of every row as its class stores it now; for migrations."""
    keys = list(model.objects.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(keys), BATCH):
        for pk, value in model.objects.filter(pk__in=keys[start : start + BATCH]).values_list("pk", field):
            model.objects.filter(pk=pk).update(**{field: change(value)})


def found(path: str) -> str:
    """The path, or where it lies in a data folder that was moved while rows still held absolute paths."""
    parts = Path(path).parts
    moved = (Path(settings.DATA_ROOT, *parts[start:]) for start in range(1, len(parts)))
    return path if Path(path).exists() else str(next((place for place in moved if place.exists()), path))
