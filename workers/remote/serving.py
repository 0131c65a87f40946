"""How the inference class runs on Modal; read when the app is deployed."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from adapters.backbone.spec import HUB_ID, BaseSpec, fingerprint, pick_dtype
from datasets_app.errors import InputError
from workers.remote.machines import check_gpus, gpus

ON_VOLUME = "base"
VARIABLES = {"base": "SWITCHYARD_BASE", "revision": "SWITCHYARD_BASE_REVISION", "dtype": "SWITCHYARD_DTYPE"}


@dataclass(frozen=True)
class Serving:
    """Each field but the first three may be set by the variable `SWITCHYARD_MODAL_SERVING_<FIELD>`.

    `base` is a hub id, `base:folder` for a folder on the volume of base models, or empty for the tiny base; `gpus`
    are tried in their order, and empty means none. `concurrency` requests are answered at once by a container, which
    goes when it was idle for `scaledown_seconds`, down to `min_containers`.
    """

    base: str = ""
    revision: str = ""
    dtype: str = "auto"
    gpus: str = "H100,A100-80GB,L40S"
    cpus: int = 4
    memory_mib: int = 32768
    min_containers: int = 0
    max_containers: int = 1
    scaledown_seconds: int = 300
    concurrency: int = 16

    @classmethod
    def from_env(cls) -> Serving:
        """The defaults and what the environment changes."""
        found = {field.name: os.environ.get(_variable(field.name)) for field in fields(cls)}
        given = {name: type(getattr(cls, name))(value) for name, value in found.items() if value is not None}
        return cls(**given)

    def as_env(self) -> dict[str, str]:
        """The variables that make `from_env` give these values."""
        return {_variable(field.name): str(getattr(self, field.name)) for field in fields(self)}

    def check(self) -> None:
        """InputError for a base that no container could load, or a machine that it could not use, before any starts."""
        check_gpus(_variable("gpus"), self.gpu_list or [])
        if not self.base or self.base.startswith(f"{ON_VOLUME}:"):
            return
        spec = BaseSpec(self.base, self.revision or None)
        if spec.is_local:
            raise InputError(
                f"SWITCHYARD_BASE: {self.base!r} is a folder of this machine, which no container has. Bring it to the "
                "volume of base models, and deploy with SWITCHYARD_BASE=base:<its folder there>."
            )
        fingerprint(spec)

    @property
    def gpu_list(self) -> list[str] | None:
        """As Modal takes it."""
        return gpus(self.gpus) or None

    def spec(self, volume: Path) -> BaseSpec:
        """The base in a container that has the volume of base models at `volume`; InputError if it cannot be named."""
        role, colon, folder = self.base.partition(":")
        if colon and role == ON_VOLUME:
            base = BaseSpec(str(volume / folder))
        elif HUB_ID.fullmatch(self.base):
            base = BaseSpec(self.base, self.revision or None)
        else:
            base = BaseSpec(self.base) if self.base else BaseSpec()
        fingerprint(base)
        return BaseSpec(base.path, base.revision, pick_dtype(self.dtype, "cuda" if self.gpu_list else "cpu", base))


def _variable(name: str) -> str:
    return VARIABLES.get(name) or f"SWITCHYARD_MODAL_SERVING_{name.upper()}"
