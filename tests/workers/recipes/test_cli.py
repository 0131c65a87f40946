"""Recipes from the shell: options from the spec, exit codes, nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workers.recipes import RECIPES
from workers.recipes.cli import main


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_lists_every_field(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(recipe, ["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--out" in text
    assert {"generate_dataset": "--samples-per-class", "preprocess": "--max-pixels"}.get(recipe, "--base") in text


def sources(screens: dict[str, Path]) -> str:
    return json.dumps(
        [{"label": name, "path": str(path), "negative": name == "other"} for name, path in screens.items()]
    )


def test_success(screens: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "routing"
    assert main("generate_dataset", ["--sources", sources(screens), "--samples-per-class", "9", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["samples_per_class"] == 9
    assert sorted(path.name for path in out.iterdir()) == [
        "eval.jsonl", "images", "metadata.json", "train.jsonl", "val.jsonl",
    ]  # fmt: skip
    assert [path.name for path in out.parent.iterdir()] == ["routing"]


def test_options_override_the_spec_file(screens: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({"sources": json.loads(sources(screens)), "samples_per_class": 9, "seed": 4}))
    assert main("generate_dataset", ["--spec", str(file), "--seed", "5", "--out", str(tmp_path / "out")]) == 0
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert (metadata["seed"], metadata["samples_per_class"]) == (5, 9)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sources", "[{"], "error: --sources: not valid JSON"),
        (["--sources", "[]"], "error: sources: "),
        (["--samples-per-class", "many"], "error: s"),
        (["--split", "[0.5, 0.5, 0.5]"], "error: s"),
        (["--spec", "/nowhere.json"], "error: --spec: /nowhere.json cannot be read"),
        (["--sources", '[{"label": "a", "path": "/no"}, {"label": "b", "path": "/nor"}]'], "error: Source 'a': "),
    ],
)
def test_wrong_input_is_one_sentence_and_code_2(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("generate_dataset", [*options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(sentence)
    assert error.count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_result_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_text("x")
    assert main("train", ["--data", "x", "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_failed_job_is_code_1(prepared_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {
        "data": prepared_folder,
        "learning_rate": 1e-45,
        "max_steps": 1,
        "batch_size": 2,
        "threads": 1,
    }
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert main("train", [*arguments, "--val-samples", "2", "--out", str(tmp_path / "out")]) == 1
    assert "error: Training made no usable adapter" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_broken_row_leaves_nothing_half_written(
    screens: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "data.jsonl").write_text("{}\n")
    listed = [*json.loads(sources(screens)), {"label": "broken", "path": str(broken)}]
    out = tmp_path / "out"
    assert main("generate_dataset", ["--sources", json.dumps(listed), "--out", str(out)]) == 2
    assert "error: Source 'broken': data.jsonl, line 1: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_generating_a_dataset_needs_no_torch() -> None:
    code = (
        "import sys, workers.recipes.cli, workers.recipes.generate_dataset, datasets_app.formats.routing\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'django') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
