"""Paths that people name, and what can't be read there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets_app.errors import InputError
from datasets_app.paths import existing_folder, read_file

NOTHING_THERE = ["x" * 300, "loop", "none", "file/below", "a\0b", "~nobody-here/x"]


def read(path: str) -> bytes:
    return read_file(path, "The source", 10)


def folder(path: str) -> Path:
    return existing_folder(path, "The source")


def test_links_and_homes_lead_to_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "file").write_bytes(b"text")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert existing_folder(tmp_path / "link", "It") == existing_folder("~/link", "It") == tmp_path / "real"
    assert read("~/link/file") == b"text"


@pytest.mark.parametrize("name", NOTHING_THERE)
@pytest.mark.parametrize("look", [read, folder])
def test_a_path_that_leads_nowhere_is_refused_in_a_sentence(
    look: Callable[[str], object], name: str, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^The source .* (is not a folder|cannot be read: .*|.* be followed)\.$"):
        look(name if name.startswith("~") else str(tmp_path / name))


@pytest.mark.parametrize("look", [read, folder])
def test_what_is_neither_file_nor_folder_is_refused_without_waiting_for_it(
    look: Callable[[str], object], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"is not a (folder|regular file)\.$"):
        look(str(tmp_path / "pipe"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_is_forbidden_is_said_to_be() -> None:
    with pytest.raises(InputError, match="Permission denied"):
        folder("/proc/1/root")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 11)
    with pytest.raises(InputError, match="larger than 10 bytes"):
        read(str(tmp_path / "file"))


def test_a_path_too_long_for_the_database_is_refused(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(5):
        deep = deep / ("x" * 220)
    deep.mkdir(parents=True)
    with pytest.raises(InputError, match="more than 1024 characters"):
        existing_folder(deep, "The source")
