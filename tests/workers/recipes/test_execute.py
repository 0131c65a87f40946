"""What a job leaves behind can be read and recorded by everybody."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from workers.recipes import execute as executing
from workers.recipes.execute import FolderJob, execute, leave


def left(tmp_path: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """The result of a generate_dataset, as others read it."""
    leave(tmp_path, execute("generate_dataset", spec, FolderJob(tmp_path, tmp_path / "work")))
    result: dict[str, Any] = json.loads((tmp_path / "result.json").read_bytes())
    return result


def test_a_file_name_that_is_no_text_is_named_in_text(tmp_path: Path) -> None:
    sources = [{"label": label, "path": str(tmp_path / label)} for label in ("calendar", "claim-window")]
    for source in sources:
        Path(source["path"]).mkdir()
        Path(os.fsdecode(os.fsencode(source["path"]) + b"/\xff.jsonl")).write_text("{")
    result = left(tmp_path, {"sources": sources})
    assert result["state"] == "failed"
    assert "\N{REPLACEMENT CHARACTER}.jsonl" in result["error"]


@pytest.mark.parametrize("summary", [{"loss": math.nan}, {"words": "\ud800"}, {"path": "\0"}])
def test_a_summary_that_nobody_can_record_fails_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summary: dict[str, Any]
) -> None:
    monkeypatch.setattr(executing, "run_recipe", lambda kind, spec, job: summary)
    result = left(tmp_path, {})
    assert result["state"] == "failed"
    assert result["error"].startswith("The JSON holds")
