"""The record that docs/data.md shows is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controlplane.env import ROOT
from datasets_app.formats import read_source
from tests.cast import png


@pytest.mark.parametrize("file", ["data.jsonl", "data.json"])
def test_the_documented_record_is_read_as_the_docs_say(tmp_path: Path, file: str) -> None:
    section = (ROOT / "docs" / "data.md").read_text().partition("## Source datasets")[2]
    record = json.loads(section.split("```json")[1].partition("```")[0])
    (tmp_path / "images").mkdir()
    (tmp_path / record["image"]).write_bytes(png())
    (tmp_path / file).write_text(json.dumps(record if file.endswith("l") else [record]) + "\n")
    (row,) = read_source(tmp_path)
    assert (row.id, row.group) == (record["id"], "session-17")
    system, human, answer = (turn["value"] for turn in record["conversations"])
    assert (row.system, row.prompt, row.answer) == (system, human.removeprefix("<image>\n"), answer)
