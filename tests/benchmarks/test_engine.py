"""The engine's benchmark runs to its end and writes what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import engine


def test_single_requests_of_the_tiny_base_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "RESULTS", tmp_path)
    engine.main(["--size", "tiny", "--rounds", "2", "--tokens", "3", "--alone"])
    result = json.loads((tmp_path / "engine-tiny-alone.json").read_bytes())
    assert result["alone"].keys() >= {"plain_over_expert_only", "alora_over_expert_only", "fresh_base_over_expert_only"}
    for ratio in result["ratios"].values():
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    assert result["bytes"]["deployed"] <= result["bytes"]["peak"]
