"""Where a process runs: its id means nothing on another machine, after a restart, or in another container."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

BOOT, NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


@cache
def whereabouts() -> dict[str, str]:
    """Host, boot and namespace of process ids; the latter two are empty where there is no /proc, as on macOS."""
    found = {"host": platform.node(), "boot": "", "pids": ""}
    with suppress(OSError):
        found |= {"boot": BOOT.read_text().strip(), "pids": str(NAMESPACE.readlink())}
    return found


def own_pid(claim: dict[str, Any]) -> int | None:
    """The process id in a claim, if it means a process that this one may signal."""
    pid = claim.get("pid")
    is_here = all(claim.get(name) == value for name, value in whereabouts().items())
    return pid if is_here and isinstance(pid, int) and pid > 1 else None
