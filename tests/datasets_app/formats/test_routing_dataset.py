"""Routing datasets: the owner's sample line is read as it is, what is written is read back, errors have a place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from datasets_app.errors import InputError
from datasets_app.formats import routing
from datasets_app.formats.rows import RoutingRow
from tests.datasets_app.formats.folder import Folder, routing_row

OWNERS_LINE = (
    '{"id": "claim-window_00447", "image": "images/0.png", "conversations": [{"from": "system", "value": '
    '"You are a routing classifier..."}, {"from": "human", "value": "<image>\\nWhich adapter should handle this?"}, '
    '{"from": "gpt", "value": "claim-window"}], "metadata": {"adapter": "claim-window", "label": 0}}'
)


def fill(folder: Folder, *train: Any, metadata: dict[str, Any] | None = None) -> None:
    folder.lines(*train, name="train.jsonl")
    folder.lines(name="val.jsonl")
    folder.lines(routing_row(4, "other", 1), name="eval.jsonl")
    if metadata is not None:
        (folder.path / "metadata.json").write_text(json.dumps(metadata))


def test_the_owners_line_is_read(folder: Folder) -> None:
    fill(folder, OWNERS_LINE.encode())
    dataset = routing.read(folder.path)
    row = dataset.splits["train"][0]
    assert (row.id, row.label, row.index) == ("claim-window_00447", "claim-window", 0)
    assert dataset.labels == ("claim-window", "other")
    assert dataset.human == "<image>\nWhich adapter should handle this?"
    assert dataset.system == "You are a routing classifier..."
    assert dataset.none_label is None


def test_what_is_written_is_read_back(folder: Folder) -> None:
    row = RoutingRow(
        id="none_00000", image=folder.path / "images" / "2.png", system="S", human="<image>\nWords: go", label="none",
        index=0, source_id="row-9", prompt="go", answer="No.",
    )  # fmt: skip
    metadata = {"labels": {"none": 0}, "none_label": "none", "template": {"human": "<image>\nWords: {prompt}"}}
    routing.write(folder.path, {"train": [row], "val": [], "eval": []}, metadata)
    dataset = routing.read(folder.path)
    read = dataset.splits["train"][0]
    assert (read.source_id, read.prompt, read.answer, read.image) == ("row-9", "go", "No.", row.image)
    assert (dataset.human, dataset.none_label) == ("<image>\nWords: {prompt}", "none")
    keys = json.loads((folder.path / "train.jsonl").read_text())
    assert list(keys) == ["id", "image", "conversations", "metadata"]


SPOILED: dict[str, tuple[Any, str]] = {
    "no metadata": (routing_row(1, metadata=None), "field 'metadata'"),
    "label of text": (routing_row(1, metadata={"adapter": "calendar", "label": "0"}), "field 'metadata.label'"),
    "label true": (routing_row(1, metadata={"adapter": "calendar", "label": True}), "field 'metadata.label'"),
    "other adapter": (routing_row(1, metadata={"adapter": "claims", "label": 0}), "field 'metadata.adapter'"),
    "unknown label": (routing_row(1, "claims", 0), "label 'claims' is unknown"),
    "other number": (routing_row(1, "calendar", 1), "label 'calendar' is number 0, not 1"),
    "label with a path": (routing_row(1, "../x", 0), "'../x' is not a valid name"),
    "label with a look-alike": (routing_row(1, "cаlendar", 0), "is not a valid name"),
    "label with a newline": (routing_row(1, "calendar\n", 0), "is not a valid name"),
    "prompt of lists": (
        routing_row(1, metadata={"adapter": "calendar", "label": 0, "prompt": []}),
        "field 'metadata.prompt'",
    ),
    "same id again": (routing_row(1, id="calendar_00000"), "occurs a second time"),
    "missing image": (routing_row(9), "image 'images/9.png' is missing"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_wrong_sample_is_named_by_file_and_line(folder: Folder, case: str) -> None:
    row, sentence = SPOILED[case]
    fill(folder, routing_row(0), row, metadata={"labels": {"calendar": 0, "other": 1}})
    with pytest.raises(InputError) as caught:
        routing.read(folder.path)
    assert str(caught.value).startswith("train.jsonl, line 2: ")
    assert sentence in str(caught.value)


def test_labels_without_a_gap(folder: Folder) -> None:
    fill(folder, routing_row(0, "calendar", 5))
    with pytest.raises(InputError, match="numbered 0, 1, 2"):
        routing.read(folder.path)


@pytest.mark.parametrize("text", ["[]", "{", '{"labels": ["a"]}', '{"labels": {"a": "0"}}', '{"none_label": 3}'])
def test_wrong_metadata(folder: Folder, text: str) -> None:
    fill(folder, routing_row(0))
    (folder.path / "metadata.json").write_text(text)
    with pytest.raises(InputError, match=r"metadata\.json"):
        routing.read(folder.path)


def test_one_system_turn_for_all(folder: Folder) -> None:
    other = routing_row(1)
    other["conversations"][0]["value"] = "Another."
    fill(folder, routing_row(0), other)
    with pytest.raises(InputError, match="share one system turn"):
        routing.read(folder.path)
