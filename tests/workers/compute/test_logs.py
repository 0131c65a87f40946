"""The end of a log, however long it is and whatever is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.compute.local import LocalCompute
from workers.compute.modal import ModalCompute
from workers.compute.types import Compute


@pytest.fixture(params=[LocalCompute, ModalCompute])
def compute(request: pytest.FixtureRequest, tmp_path: Path) -> Compute:
    (tmp_path / "job").mkdir()
    compute: Compute = request.param(str(tmp_path))
    return compute


@pytest.fixture
def log(compute: Compute, tmp_path: Path) -> Path:
    return tmp_path / "job" / "log"


def test_the_last_lines_are_shown(compute: Compute, log: Path) -> None:
    assert compute.logs("job") == ""
    log.touch()
    assert compute.logs("job") == ""
    log.write_bytes(b"one\r\n\ntwo \xff\nthree")
    assert compute.logs("job") == "one\n\ntwo \N{REPLACEMENT CHARACTER}\nthree\n"
    assert compute.logs("job", 2) == "two \N{REPLACEMENT CHARACTER}\nthree\n"


def test_of_a_log_that_is_very_long_only_the_end_is_read(compute: Compute, log: Path) -> None:
    log.touch()
    os.truncate(log, 2**30)  # without a line's end, and without taking room
    with log.open("ab") as file:
        file.write(b"".join(b"line %d\n" % number for number in range(1000)))
    assert compute.logs("job", 3) == "line 997\nline 998\nline 999\n"
    assert len(compute.logs("job", 2000)) < 2**18


def test_lines_that_never_end_are_cut(compute: Compute, log: Path) -> None:
    log.write_bytes(b"x" * 2**20)
    assert len(compute.logs("job")) == 2**18 + 1


def test_of_a_bar_that_is_drawn_over_itself_the_last_state_is_shown(compute: Compute, log: Path) -> None:
    bar = b"".join(b"\r%d of 100000" % number for number in range(100_000))
    log.write_bytes(b"start\n" + bar)
    assert compute.logs("job") == "99999 of 100000\n"
    log.write_bytes(b"start\n\r1 of 9\r2 of 9\nend\n")
    assert compute.logs("job") == "start\n2 of 9\nend\n"
