"""A dataset of either kind, read as examples of one adapter's task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasets_app.errors import InputError
from datasets_app.formats import read_source, routing
from datasets_app.formats.conversation import IMAGE_TAG, user_words
from datasets_app.formats.records import located
from datasets_app.formats.rows import RoutingRow, SourceRow
from workers.recipes.splits import Split, SplitSource

EXPERT_HUMAN = f"{IMAGE_TAG}\n{{prompt}}"


@dataclass(frozen=True)
class Example:
    """One sample: what the adapter should answer is `target`, the label or the expert's answer."""

    id: str
    image: Path
    words: str
    target: str
    label: str | None
    answer: str | None
    file: str
    line: int


@dataclass(frozen=True)
class Content:
    """Examples per split, and the turns around the user's words: `human` is a template with `{prompt}`."""

    kind: Literal["router", "expert"]
    labels: tuple[str, ...]
    none_label: str | None
    system: str | None
    human: str
    splits: dict[str, list[Example]]


def read_content(folder: Path, format: str, split: Split | None, seed: int, distance: int) -> Content:
    """Read a routing dataset, or an expert's source dataset, which is split; InputError names file and line.

    `format` alone decides which it is: the files of a source dataset may have the names of splits.
    """
    if format == routing.FORMAT:
        return _routing(folder)
    return _source(folder, list(read_source(folder, format)), split, seed, distance)


def _routing(folder: Path) -> Content:
    dataset = routing.read(folder)
    splits = {side: [_routed(row, dataset.human) for row in rows] for side, rows in dataset.splits.items()}
    return Content("router", dataset.labels, dataset.none_label, dataset.system, dataset.human, splits)


def _routed(row: RoutingRow, template: str) -> Example:
    words = user_words(row.human) if row.prompt is None else row.prompt
    if template.replace("{prompt}", words) != row.human:
        with located(row.file, row.line):
            raise InputError(f"the human turn is not the template {template!r} with the sample's prompt in it.")
    return Example(row.id, row.image, words, row.label, row.label, row.answer, row.file, row.line)


def _source(folder: Path, rows: Sequence[SourceRow], split: Split | None, seed: int, distance: int) -> Content:
    for row in rows:
        if row.system != rows[0].system:
            with located(row.file, row.line):
                raise InputError("the system turn differs from the first row's; an expert is trained with one.")
    sides = SplitSource(rows, split, seed, distance).sides
    splits: dict[str, list[Example]] = {side: [] for side in routing.SPLITS}
    for row, side in zip(rows, sides, strict=True):
        splits[side].append(Example(row.id, row.image, row.prompt, row.answer, None, row.answer, row.file, row.line))
    return Content("expert", (), None, rows[0].system, EXPERT_HUMAN, splits)
