"""Sample screens: deterministic, varied, and in the format of a user's own data."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from datasets_app.errors import InputError
from datasets_app.formats import read_source
from datasets_app.samples.kinds import KINDS
from datasets_app.samples.source import write_source
from inference.routing.tool_call import parse_tool_call

ROOT = Path(__file__).resolve().parents[3]


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


def test_two_fresh_processes_write_the_same_bytes(tmp_path: Path) -> None:
    for name, hash_seed in (("a", "1"), ("b", "2")):
        subprocess.run(
            [sys.executable, "-m", "datasets_app.samples", "--out", str(tmp_path / name), "--count", "5"],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=True, capture_output=True,
        )  # fmt: skip
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_another_seed_draws_other_screens(tmp_path: Path) -> None:
    first, second = (write_source("calendar", tmp_path / str(seed), 3, seed) for seed in (1, 2))
    assert digest(first / "images") != digest(second / "images")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reads_back_as_a_users_own_dataset(kind: str, tmp_path: Path) -> None:
    rows = list(read_source(write_source(kind, tmp_path / kind, 30, 1)))
    assert len({row.image.read_bytes() for row in rows}) == 30
    assert len({row.system for row in rows}) == 1
    calls = [parse_tool_call(row.answer) for row in rows]
    if kind == "other":
        assert calls == [None] * 30
    else:
        assert all(call is not None for call in calls)
        assert len({json.dumps(call) for call in calls}) > 3


@pytest.mark.parametrize(("kind", "count"), [("nothing", 3), ("calendar", 0)])
def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(kind: str, count: int, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_source(kind, tmp_path / "out", count, 1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        write_source("calendar", tmp_path, 1, 1)
    assert (tmp_path / "mine").read_text() == "mine"
