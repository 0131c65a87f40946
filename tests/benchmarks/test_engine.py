"""The engine's benchmark runs to its end and writes what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.backbone.loading import load_model
from adapters.backbone.spec import BaseSpec
from benchmarks import engine


def test_single_requests_of_the_tiny_base_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, alone, written = tmp_path / "engine-tiny-alone.json", engine.Bench.alone, []

    def watched(bench: engine.Bench, number: int) -> None:
        written.append(json.loads(path.read_bytes())["rounds"] if path.exists() else 0)
        alone(bench, number)

    monkeypatch.setattr(engine, "RESULTS", tmp_path)
    monkeypatch.setattr(engine.Bench, "alone", watched)
    engine.main(["--size", "tiny", "--rounds", "2", "--tokens", "3", "--alone"])
    assert written == [0, 1], "each round is on record before the next begins"
    result = json.loads(path.read_bytes())
    ways = ("plain", "glancing", "alora", "fresh_base")
    assert result["alone"].keys() >= {f"{way}_over_expert_only" for way in ways}
    assert result["size"]["parameters"] == sum(p.numel() for p in load_model(BaseSpec()).parameters())
    for ratio in result["ratios"].values():
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    assert result["bytes"]["deployed"] <= result["bytes"]["peak"]
