"""The smoke test of a real account, on the loopback plane."""

from __future__ import annotations

import modal
import pytest

from tests.modal_plane.plane import Plane
from workers import smoke


def names(plane: Plane) -> set[str]:
    """What the smoke test has made and not removed."""
    volumes = {folder.name for folder in (plane.root / "volumes").glob("*")}
    return {name for name in volumes | set(plane.apps.deployed) | set(plane.dicts.dicts) if "smoke" in name}


def test_a_job_and_a_request_succeed_and_all_is_removed_again(plane: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    assert smoke.main(["--yes"]) == 0
    printed = capsys.readouterr().out
    assert "less than $" in printed
    assert "A job drew 8 screens" in printed
    assert "Routed to 'left'" in printed or "Routed to 'right'" in printed
    assert names(plane) == set()


def test_what_fails_on_the_way_leaves_nothing_behind(plane: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    plane.faults.fail("AppPublish")
    assert smoke.main(["--yes"]) == 1
    assert "Failed: modal deploy: " in capsys.readouterr().out
    assert names(plane) == set()


def test_what_cannot_be_removed_is_named_and_no_success(
    plane: Plane, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "deploy", lambda: None)
    monkeypatch.setattr(smoke, "draw", lambda folder: None)
    made = modal.Dict.from_name(smoke.NAMES.claims, create_if_missing=True)
    monkeypatch.setattr(smoke, "ask", lambda folder: made.hydrate())
    plane.faults.fail("DictDelete")
    assert smoke.main(["--yes"]) == 1
    printed = capsys.readouterr().out
    assert "The Dict 'switchyard-smoke-claims' was not removed" in printed
    assert "Removed again" not in printed
    plane.faults.clear()
    assert smoke.clean_up() == []


def test_nothing_begins_without_a_token_or_a_yes(
    plane: Plane, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert smoke.main([]) == 2  # nobody is there to be asked
    monkeypatch.delenv("MODAL_TOKEN_ID")
    assert smoke.main(["--yes"]) == 2
    assert "There is no Modal token" in capsys.readouterr().out
    assert sum(plane.faults.calls.values()) == 0
