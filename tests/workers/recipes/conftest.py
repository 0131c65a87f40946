"""What the recipes' tests share."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from workers.recipes import splits
from workers.recipes.duplicates import perceptual_hashes


@pytest.fixture(scope="session", autouse=True)
def hash_once() -> Iterator[None]:
    """Hash each picture once in the session: its path never gets another picture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "perceptual_hashes", functools.cache(perceptual_hashes))
        yield
