"""Whether there is an account of Modal's, told without its client."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.compute.modal.token import has_token

TWO = """
[first]
token_id = "ak-1"
token_secret = "as-1"
[second]
token_id = "ak-2"
{active}
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "modal.toml"))
    return tmp_path / "modal.toml"


def test_there_is_none_without_a_file_and_environment() -> None:
    assert not has_token()


def test_the_environment_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-1")
    assert not has_token(), "half of one is none"
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-1")
    assert has_token()


def test_the_profile_in_use_decides(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(TWO.format(active="active = true"))
    assert not has_token()
    monkeypatch.setenv("MODAL_PROFILE", "first")
    assert has_token()


@pytest.mark.parametrize("text", ["nonsense", "token_id = 5", "[default]", TWO.format(active="")])
def test_a_file_that_says_nothing_of_use_is_none(file: Path, text: str) -> None:
    file.write_text(text)
    assert not has_token()
