"""What has to be deployed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.remote import code


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of one module."""
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "a.py").write_text("")
    (tmp_path / "constraints.txt").write_text("torch==1")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    monkeypatch.setattr(code, "CONSTRAINTS", tmp_path / "constraints.txt")
    return tmp_path


def digest() -> str:
    code.code_digest.cache_clear()
    try:
        return code.code_digest()
    finally:
        code.code_digest.cache_clear()


@pytest.mark.parametrize("name", ["workers/a.py", "workers/b.py", "constraints.txt"])
def test_a_change_of_code_or_libraries_is_seen(root: Path, name: str) -> None:
    before = digest()
    assert digest() == before
    (root / name).write_text("torch==2")
    assert digest() != before


@pytest.mark.parametrize("name", ["MACHINES", "TIME_LIMITS"])
def test_a_change_of_machines_or_time_limits_is_seen(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    monkeypatch.setattr(code, name, {**getattr(code, name), "train": ["L4"]})
    assert digest() != before
