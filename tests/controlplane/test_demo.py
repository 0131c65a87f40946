"""The demo as a process: what is left when it is stopped. Its whole job takes minutes: `make demo`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def processes_on(data: Path) -> list[str]:
    """The command of every process whose data folder is `data`."""
    mine, found = f"SWITCHYARD_DATA={data}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mine in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_no_process_behind(tmp_path: Path, stop: signal.Signals) -> None:
    environment = {**os.environ, "SWITCHYARD_DATA": str(tmp_path)}
    demo = subprocess.Popen(
        [sys.executable, "-m", "controlplane.demo"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    assert any("Sample screens" in line for line in demo.stdout)
    assert len(processes_on(tmp_path)) > 5
    demo.send_signal(stop)
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    deadline = time.monotonic() + 20
    while processes_on(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_on(tmp_path) == []
