"""Source datasets of drawn screens."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from datasets_app.samples.kinds import KINDS
from datasets_app.samples.source import SampleError, examples, write_source

ROOT = Path(__file__).parents[3]
WRITE = """
import hashlib, sys
from pathlib import Path
from datasets_app.samples.source import write_source
folder = write_source(sys.argv[1], Path(sys.argv[2]), 6, 3)
for path in sorted(folder.rglob("*.*")):
    print(path.relative_to(folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
"""


def rows(folder: Path) -> list[dict[str, object]]:
    """The dataset's lines."""
    return [json.loads(line) for line in (folder / "data.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_two_fresh_processes_write_the_same_bytes(kind: str, tmp_path: Path) -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", WRITE, kind, str(tmp_path / hash_seed)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 7


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_a_whole_conversation_about_its_own_image(kind: str, tmp_path: Path) -> None:
    folder = write_source(kind, tmp_path / "source", 20, seed=1)
    written = rows(folder)
    assert [row["id"] for row in written] == [f"{kind}_{index:05d}" for index in range(20)]
    for row in written:
        turns = row["conversations"]
        assert isinstance(turns, list)
        assert [turn["from"] for turn in turns] == ["system", "human", "gpt"]
        assert turns[0]["value"] == KINDS[kind].system
        assert turns[1]["value"].startswith("<image>\n")
        assert turns[1]["value"].count("<image>") == 1
        with Image.open(folder / str(row["image"])) as image:
            assert (image.size, image.mode, image.format) == ((192, 192), "RGB", "PNG")
    assert len(list((folder / "images").iterdir())) == 20


@pytest.mark.parametrize(
    ("kind", "tool", "arguments"),
    [
        ("calendar", "click_day", {"week": range(1, 7), "weekday": range(1, 8)}),
        ("claim-window", "copy_claim", {"number": range(10000)}),
        ("provider-select", "choose_provider", {"row": range(1, 7)}),
    ],
)
def test_an_experts_answer_is_one_tool_call(kind: str, tool: str, arguments: dict[str, range]) -> None:
    answers = [example.answer for example in examples(kind, 40, seed=2)]
    for answer in answers:
        opening, call, closing = answer.split("\n")
        assert (opening, closing) == ("<tool_call>", "</tool_call>")
        parsed = json.loads(call)
        assert parsed["name"] == tool
        assert list(parsed["arguments"]) == list(arguments)
        assert all(int(parsed["arguments"][name]) in values for name, values in arguments.items())
    assert len(set(answers)) > 3


def test_screens_of_no_expert_are_answered_without_a_tool() -> None:
    assert {example.answer for example in examples("other", 20, seed=2)} == {"No expert for this screen."}


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_screens_are_equal(kind: str) -> None:
    digests = [hashlib.sha256(example.image.tobytes()).digest() for example in examples(kind, 150, seed=4)]
    assert len(set(digests)) == 150


def test_another_seed_draws_other_screens() -> None:
    one, other = (
        {hashlib.sha256(example.image.tobytes()).digest() for example in examples("calendar", 50, seed)}
        for seed in (1, 2)
    )
    assert not one & other


def test_more_screens_begin_with_the_same_ones() -> None:
    few, many = list(examples("provider-select", 5, seed=1)), list(examples("provider-select", 9, seed=1))
    assert [example.image.tobytes() for example in few] == [example.image.tobytes() for example in many[:5]]


def test_progress_is_told_after_every_screen(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_source("other", tmp_path / "source", 3, 0, lambda done, count: told.append((done, count)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_source("other", tmp_path / "source", 3, 0, fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "count", "message"),
    [("invoice", 3, "Unknown kind 'invoice'"), ("calendar", 0, "at least 1, not 0"), ("other", -1, "at least 1")],
)
def test_what_cannot_be_drawn_is_refused(kind: str, count: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=message):
        write_source(kind, tmp_path / "source", count, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "mine.txt").write_text("keep")
    with pytest.raises(SampleError, match="not an empty folder"):
        write_source("other", tmp_path / "source", 2, 0)
    assert (tmp_path / "source" / "mine.txt").read_text() == "keep"
