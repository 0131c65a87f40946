"""Where things lie on the data volume, and how a spec points at folders of volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CLAIM, JOB, STATUS, RESULT, SIGN = "claim.json", "spawned.json", "status.json", "result.json", "sign"


def run_folder(launch_key: str) -> str:
    """All that one launch leaves."""
    return f"runs/{launch_key}"


def claim_key(launch_key: str, follows: str = "") -> str:
    """Under what a call takes the launch, or takes it over from the call `follows`, which has ended."""
    return f"{launch_key}/{follows}" if follows else launch_key


def work_folder(work_key: str) -> str:
    """Checkpoints, shared by all launches of the same work."""
    return f"work/{work_key}"


def pointer(digest: str) -> str:
    """A file that says in which folder of its volume the content of that digest lies, whole."""
    return f"content/{digest.removeprefix('sha256:')}"


def reference(role: str, path: str) -> dict[str, str]:
    """A folder of a volume, as it stands in a spec."""
    return {"volume": role, "path": path}


def is_reference(value: Any) -> bool:
    """Whether a part of a spec points at a volume."""
    return isinstance(value, dict) and value.keys() == {"volume", "path"} and all(map(_is_text, value.values()))


def resolve(spec: Any, mounts: Path) -> Any:
    """The spec with every reference replaced by the path of the folder in this container."""
    if is_reference(spec):
        return str(mounts / spec["volume"] / spec["path"])
    if isinstance(spec, dict):
        return {name: resolve(value, mounts) for name, value in spec.items()}
    if isinstance(spec, list):
        return [resolve(value, mounts) for value in spec]
    return spec


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
