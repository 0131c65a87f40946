"""The content digest of a dataset folder."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from datasets_app.errors import InputError
from datasets_app.formats.digest import folder_digest


def test_is_the_hash_of_sorted_names_and_hashes(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"2")
    one, two = (hashlib.sha256(data).hexdigest() for data in (b"1", b"2"))
    expected = hashlib.sha256(f"{two}  a\n{one}  b/x\n".encode()).hexdigest()
    assert folder_digest(tmp_path) == f"sha256:{expected}"


def test_follows_content_and_names_but_not_the_place(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x").write_bytes(b"1")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    digest = folder_digest(tmp_path / "one")
    assert folder_digest(tmp_path / "two") == digest
    (tmp_path / "two" / "x").rename(tmp_path / "two" / "y")
    assert folder_digest(tmp_path / "two") != digest


def test_hidden_names_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1")
    digest = folder_digest(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_bytes(b"2")
    (tmp_path / "._x").write_bytes(b"3")
    (tmp_path / ".#x").symlink_to("somebody@host.1234")
    assert folder_digest(tmp_path) == digest


def test_refuses_links_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match=r"'x' in dataset .* is a link that leads out of it"):
        folder_digest(tmp_path)
