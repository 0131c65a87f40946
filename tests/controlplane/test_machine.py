"""What jobs on this machine get of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane import machine


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The device files of a machine without a GPU."""
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidiactl").touch()
    return tmp_path


def slots_and_threads(device: str = "auto") -> tuple[int, int]:
    slots = machine.default_slots(device)
    return slots, machine.threads(slots)


@pytest.mark.parametrize(("cores", "expected"), [(1, (1, 1)), (2, (2, 1)), (4, (4, 1)), (8, (4, 2)), (64, (4, 16))])
def test_jobs_on_processors_share_the_cores(
    cores: int, expected: tuple[int, int], devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CORES", cores)
    assert slots_and_threads() == slots_and_threads("cpu") == expected


def test_one_job_at_a_time_has_the_gpu_and_all_cores(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the jobs are kept off it."""
    monkeypatch.setattr(machine, "CORES", 16)
    assert slots_and_threads("cuda:1") == (1, 16)
    (devices / "nvidia0").touch()
    assert slots_and_threads() == (1, 16)
    assert slots_and_threads("cpu") == (4, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert slots_and_threads() == (4, 4)


def test_any_number_of_slots_leaves_a_thread() -> None:
    assert machine.threads(10**6) == 1
