"""What a recipe sees of the place it runs in."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict


class RecipeSpec(BaseModel):
    """Base of every recipe's configuration: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Job(Protocol):
    """One execution of a recipe."""

    out: Path
    """Empty directory; what lies in it when the recipe returns is the result."""

    work: Path
    """Directory that survives a killed job: the next attempt of the same run finds its checkpoints here."""

    def progress(self, step: str, done: int, total: int, **metrics: float) -> None:
        """Report `done` of `total` units of the named step, with live metrics such as `loss`."""

    def checkpointed(self) -> None:
        """Say that `work` holds a new whole checkpoint."""
