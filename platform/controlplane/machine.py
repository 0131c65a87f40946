"""What jobs on this machine get of it; told without torch, which the platform's processes do not import."""

from __future__ import annotations

import os
from pathlib import Path

CORES = os.cpu_count() or 1
AT_ONCE = 4  # jobs on processors: each loads a base of its own, and more cores serve one job better than more jobs
DEVICES = Path("/dev")


def has_gpu() -> bool:
    """Whether torch would find a GPU, as far as the driver's device files and `CUDA_VISIBLE_DEVICES` tell."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and any(DEVICES.glob("nvidia[0-9]*"))


def default_slots(device: str) -> int:
    """How many jobs run at once on `SWITCHYARD_DEVICE`: on a GPU one."""
    on_gpu = device.startswith("cuda") or (device == "auto" and has_gpu())
    return 1 if on_gpu else min(CORES, AT_ONCE)


def threads(slots: int) -> int:
    """How many threads each of `slots` jobs gets, so that together they fill the cores."""
    return max(1, CORES // max(1, slots))
