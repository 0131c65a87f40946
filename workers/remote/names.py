"""What things are called on Modal; the app and the control plane must agree."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

MOUNTS = Path(os.environ.get("SWITCHYARD_VOLUMES", "/vol"))
"""Where a container finds the volumes, each below its role: `data`, `checkpoints`, `sources`, `base`."""


@dataclass(frozen=True)
class Names:
    """Each may be changed by the environment variable `SWITCHYARD_MODAL_<NAME>`.

    `data` holds runs, inputs and checkpoints of jobs, `checkpoints` the owner's adapters, `sources` the owner's
    source datasets, `base` the weights of base models; `claims` is the Dict in which a launch is taken.
    """

    app: str = "switchyard"
    data: str = "moe-lora-data"
    checkpoints: str = "moe-lora-checkpoints"
    sources: str = "claimhawk-training-data"
    base: str = "switchyard-base-models"
    claims: str = "switchyard-claims"

    @classmethod
    def from_env(cls) -> Names:
        """The defaults and what the environment changes."""
        variables = {name: setting(name) for name in asdict(cls())}
        return cls(**{name: os.environ[word] for name, word in variables.items() if os.environ.get(word)})

    def as_env(self) -> dict[str, str]:
        """The variables that make `from_env` give these names."""
        return {setting(name): value for name, value in asdict(self).items()}

    @property
    def volumes(self) -> dict[str, str]:
        """The volumes' names by their roles."""
        return {role: getattr(self, role) for role in ("data", "checkpoints", "sources", "base")}


def setting(name: str) -> str:
    """The variable from which the field comes."""
    return f"SWITCHYARD_MODAL_{name.upper()}"
