"""What the control plane knows of a kind of job."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from workers.models import Run


class Params(BaseModel):
    """Base of every kind's parameters, in the names that people use; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Resolved:
    """What the parameters mean at the launch: the recipe's `spec`, and the rows (by key) it was made from.

    `digests` says by content hash what lies at each path in the spec, so that equal work can be told; `owner` is the
    name of what the result belongs to, where the spec does not tell: equal work for another is not its own.
    """

    spec: dict[str, Any]
    inputs: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    owner: str = ""


class Kind(Protocol):
    """One module of this package each; `KINDS` lists them."""

    Params: type[Params]

    def check(self, params: Any) -> None:
        """Refuse parameters that cannot work now, with an InputError, before anything is queued."""

    def resolve(self, run: Run) -> Resolved:
        """Names in its parameters resolved to paths and rows, once for all attempts. InputError fails the run."""

    def finalize(self, run: Run, outputs: Path) -> dict[str, Any]:
        """Record the result; return the run's fields to set. Repeating it changes nothing."""
