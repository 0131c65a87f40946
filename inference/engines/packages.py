"""Which versions of what compute an answer."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


def versions(names: Sequence[str]) -> dict[str, str]:
    """The installed packages' versions; "source" for one that runs without being installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "source"
    return found
