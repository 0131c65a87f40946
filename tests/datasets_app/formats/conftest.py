"""A dataset folder of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets_app.formats.folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A dataset folder with five pictures and no rows yet."""
    return Folder(tmp_path / "dataset")
