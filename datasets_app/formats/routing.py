"""The routing dataset: `train.jsonl`, `val.jsonl`, `eval.jsonl`, `images/` and `metadata.json` in one folder.

One sample is `{"id", "image", "conversations": [system, human, gpt], "metadata": {"adapter", "label", …}}`;
the gpt turn is the label, which is the adapter's name. `metadata.json` may give the label numbers (`"labels":
{name: number}`) and the human template (`"template": {"human": …}`); else both are taken from the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_app.errors import InputError
from datasets_app.formats.conversation import IMAGE_TAG, Turns, read_turns
from datasets_app.formats.images import check_file, resolve_image
from datasets_app.formats.llava import read_id
from datasets_app.formats.records import located, parse, read_records
from datasets_app.formats.rows import RoutingRow
from datasets_app.names import check_name

SPLITS = ("train", "val", "eval")
METADATA = "metadata.json"
FORMAT = "routing"
"""How a job is told that a folder is read by this module and not as a source dataset."""
NO_LABEL_NUMBERS: dict[str, int] = {}


@dataclass(frozen=True)
class RoutingDataset:
    """A checked routing dataset: `labels` in label order, `human` the template of the human turn.

    `none_label` is the label of screens that no expert is meant for, None where there is none.
    """

    labels: tuple[str, ...]
    none_label: str | None
    system: str | None
    human: str
    splits: dict[str, list[RoutingRow]]


def is_routing(folder: Path) -> bool:
    """Whether `folder` is laid out as a routing dataset."""
    return all((folder / f"{split}.jsonl").is_file() for split in SPLITS)


def read(folder: Path) -> RoutingDataset:
    """Read the routing dataset in `folder`, checking rows and images; InputError names file and line."""
    if not is_routing(folder):
        raise InputError(f"{str(folder)!r} is no routing dataset: train.jsonl, val.jsonl or eval.jsonl is missing.")
    metadata = _read_metadata(folder)
    declared = metadata.get("labels", NO_LABEL_NUMBERS)
    numbers = dict(declared)
    seen: set[str] = set()
    splits: dict[str, list[RoutingRow]] = {}
    for split in SPLITS:
        splits[split] = []
        for number, _, record in read_records(folder / f"{split}.jsonl"):
            with located(f"{split}.jsonl", number):
                row = _read_row(folder, f"{split}.jsonl", number, record)
                if declared and row.label not in declared:
                    raise InputError(f"label {row.label!r} is unknown; known are {', '.join(sorted(declared))}.")
                if numbers.setdefault(row.label, row.index) != row.index:
                    raise InputError(f"label {row.label!r} is number {numbers[row.label]}, not {row.index}.")
                if row.id in seen:
                    raise InputError(f"id {row.id!r} occurs a second time.")
                seen.add(row.id)
            splits[split].append(row)
    if not seen:
        raise InputError(f"The routing dataset {folder.name!r} has no rows.")
    rows = [row for split in SPLITS for row in splits[split]]
    labels = _label_order(numbers)
    return RoutingDataset(labels, _none_label(metadata, labels), _constant_system(rows), _human(metadata, rows), splits)


def write(folder: Path, splits: dict[str, list[RoutingRow]], metadata: dict[str, Any]) -> None:
    """Write rows, whose images already lie in `folder`, and `metadata.json`: same input, same bytes."""
    for split in SPLITS:
        lines = (_dump(_to_json(folder, row)) for row in splits[split])
        (folder / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    text = json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
    (folder / METADATA).write_text(text, encoding="utf-8")


def _dump(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def _to_json(folder: Path, row: RoutingRow) -> dict[str, Any]:
    metadata = {"adapter": row.label, "label": row.index}
    extra = {"source_id": row.source_id, "prompt": row.prompt, "answer": row.answer}
    return {
        "id": row.id,
        "image": row.image.relative_to(folder).as_posix(),
        "conversations": Turns(row.system, row.human, row.label).to_json(),
        "metadata": metadata | {key: value for key, value in extra.items() if value is not None},
    }


def _read_row(folder: Path, file: str, number: int, record: dict[str, Any]) -> RoutingRow:
    turns = read_turns(record)
    metadata = record.get("metadata")
    if not isinstance(metadata, dict):
        raise InputError("field 'metadata' must be an object with 'adapter' and 'label'.")
    index = metadata.get("label")
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise InputError("field 'metadata.label' must be the label's number, 0 or more.")
    label = check_name(turns.answer)
    if metadata.get("adapter") != label:
        raise InputError(f"the gpt turn says {label!r}, field 'metadata.adapter' does not.")
    extra = {key: metadata.get(key) for key in ("source_id", "prompt", "answer")}
    for key, value in extra.items():
        if value is not None and not isinstance(value, str):
            raise InputError(f"field 'metadata.{key}' must be a text.")
    identity = read_id(record, file, number)
    image = resolve_image(folder, record.get("image"))
    check_file(image, record["image"])
    return RoutingRow(
        id=identity,
        image=image,
        system=turns.system,
        human=turns.human,
        label=label,
        index=index,
        **extra,
        file=file,
        line=number,
    )


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA
    if not path.is_file():
        return {}
    with located(METADATA, 1):
        if path.stat().st_size > 2**20:
            raise InputError("the file is larger than 1 MiB.")
        metadata = parse(path.read_bytes())
        if not isinstance(metadata, dict):
            raise InputError("one JSON object is needed.")
        labels = metadata.get("labels", NO_LABEL_NUMBERS)
        if not isinstance(labels, dict) or any(type(number) is not int for number in labels.values()):
            raise InputError("field 'labels' must map each label to its number.")
    return metadata


def _label_order(numbers: dict[str, int]) -> tuple[str, ...]:
    if sorted(numbers.values()) != list(range(len(numbers))):
        shown = ", ".join(f"{name}={number}" for name, number in sorted(numbers.items()))
        raise InputError(f"The labels must be numbered 0, 1, 2, … without gaps; they are {shown[:300]}.")
    return tuple(sorted(numbers, key=numbers.__getitem__))


def _none_label(metadata: dict[str, Any], labels: tuple[str, ...]) -> str | None:
    none_label = metadata.get("none_label", "none")
    if none_label is not None and not isinstance(none_label, str):
        raise InputError(f"{METADATA}: field 'none_label' must be a label or null.")
    return none_label if none_label in labels else None


def _constant_system(rows: Iterable[RoutingRow]) -> str | None:
    systems = {row.system for row in rows}
    if len(systems) > 1:
        raise InputError("The rows of a routing dataset must share one system turn; these have several.")
    return systems.pop()


def _human(metadata: dict[str, Any], rows: Iterable[RoutingRow]) -> str:
    template = metadata.get("template")
    if isinstance(template, dict) and isinstance(template.get("human"), str):
        return str(template["human"])
    humans = {row.human for row in rows}
    return humans.pop() if len(humans) == 1 else IMAGE_TAG + "\n{prompt}"
