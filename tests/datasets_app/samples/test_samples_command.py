"""`python -m datasets_app.samples`."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets_app.samples.__main__ import main


def test_one_folder_per_kind_is_written(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--kinds", "calendar", "other", "--count", "2"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calendar", "other"]
    assert len((tmp_path / "calendar" / "data.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--kinds", "invoice"], "error: Unknown kind 'invoice'; choose from calendar, claim-window, "),
        (["--count", "0"], "error: The count must be at least 1, not 0.\n"),
        (["--kinds", "other", "other", "--count", "1"], "already exists and is not an empty folder.\n"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), *arguments]) == 2
    assert sentence in capsys.readouterr().err
