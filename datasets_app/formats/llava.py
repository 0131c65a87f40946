"""Source datasets: a folder of screenshots and LLaVA conversations in `*.jsonl` files (or `.json` lists).

One record is `{"id", "image": "images/x.png", "conversations": […], "metadata": {"group"}}`; the turns are an
optional system, a human with one `<image>` and last the gpt, the expert's answer.
`id` may be missing: the row is then called after its file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets_app.errors import InputError
from datasets_app.formats.conversation import IMAGE_TAG, check_prompt, read_turns, user_words
from datasets_app.formats.digest import is_hidden
from datasets_app.formats.images import check_file, resolve_image
from datasets_app.formats.records import located, read_records
from datasets_app.formats.rows import SourceRow

MAX_ID = 200
SUFFIXES = (".jsonl", ".json")


def read(folder: Path) -> Iterator[SourceRow]:
    """Yield every row of the source dataset in `folder`; InputError names file and line of a wrong one."""
    seen: set[str] = set()
    for path in data_files(folder):
        for number, unit, record in read_records(path):
            with located(path.name, number, unit):
                row = _read_row(folder, path.name, number, record)
                if row.id in seen:
                    raise InputError(f"id {row.id!r} occurs a second time.")
                seen.add(row.id)
            yield row
    if not seen:
        raise InputError(f"The source dataset {folder.name!r} has no rows.")


def data_files(folder: Path) -> list[Path]:
    """The files of `folder` that hold rows: its `*.jsonl`, or where there is none its `*.json`."""
    if not folder.is_dir():
        raise InputError(f"The source dataset {str(folder)!r} is not a folder.")
    names = sorted(path.name for path in folder.iterdir() if not is_hidden(path.name))
    for suffix in SUFFIXES:
        found = [name for name in names if name.lower().endswith(suffix) and name != "metadata.json"]
        for name in found:
            if not name.endswith(suffix):
                raise InputError(f"{name[:120]}: write the end of the name in lower case, {suffix}.")
        if found:
            return [folder / name for name in found]
    others = ", ".join(name[:120] for name in names if (folder / name).is_file())
    only = f", but {others[:300]}: unpack or convert what holds the rows" if others else ""
    raise InputError(f"The source dataset {folder.name!r} has neither a .jsonl nor a .json file{only}.")


def read_id(record: dict[str, Any], file: str, number: int) -> str:
    """A row's id, a printable text of at most 200 characters; without one the row is called after file and line."""
    value = record.get("id")
    if value is None:
        return f"{file}:{number}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or not value.isprintable():
        raise InputError(f"field 'id' must be a printable text of 1 to {MAX_ID} characters.")
    return value


def _read_row(folder: Path, file: str, number: int, record: dict[str, Any]) -> SourceRow:
    turns = read_turns(record)
    metadata = record.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InputError("field 'metadata' must be an object.")
    group = metadata.get("group")
    if group is not None and not isinstance(group, str | int):
        raise InputError("field 'metadata.group' must be a text.")
    _check_is_source(metadata, turns.answer)
    prompt = user_words(turns.human)
    if not prompt:
        raise InputError(f"the human turn holds {IMAGE_TAG} only: the user's words are missing.")
    check_prompt(prompt)
    identity = read_id(record, file, number)
    image = resolve_image(folder, record.get("image"))
    check_file(image, record["image"])
    return SourceRow(
        id=identity,
        image=image,
        system=turns.system,
        prompt=prompt,
        answer=turns.answer,
        group=None if group is None else str(group),
        file=file,
        line=number,
    )


def _check_is_source(metadata: dict[str, Any], answer: str) -> None:
    """InputError for a row of a routing dataset, whose answer is the expert's name or its number."""
    adapter, label = metadata.get("adapter"), metadata.get("label")
    if isinstance(adapter, str) and label is not None and answer.strip() in (adapter, str(label)):
        raise InputError(
            "fields 'metadata.adapter' and 'metadata.label' make this a row of a routing dataset; "
            "a source dataset holds the answers of one expert."
        )
