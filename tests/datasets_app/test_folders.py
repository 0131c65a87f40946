"""Folders that people name, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets_app.errors import InputError
from datasets_app.folders import existing_folder


def test_links_and_homes_lead_to_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert existing_folder(tmp_path / "link", "It") == existing_folder("~/link", "It") == tmp_path / "real"


@pytest.mark.parametrize("name", ["x" * 300, "loop", "file", "none", "file/below", "a\0b", "~nobody-here/x"])
def test_whatever_is_no_folder_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("")
    path = name if name.startswith("~") else str(tmp_path / name)
    with pytest.raises(InputError) as caught:
        existing_folder(path, "The source")
    assert str(caught.value).startswith("The source '")
    assert str(caught.value).endswith((" is not a folder.", " is not a path that can be read."))


def test_a_path_too_long_for_the_database_is_refused(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(5):
        deep = deep / ("x" * 220)
    deep.mkdir(parents=True)
    with pytest.raises(InputError, match="more than 1024 characters"):
        existing_folder(deep, "The source")
