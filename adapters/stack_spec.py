"""What is deployed together, by content hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class AdapterRef:
    """One immutable adapter version: its name is for people, its digest (`sha256:…`) is what is loaded."""

    name: str
    digest: str


@dataclass(frozen=True)
class StackSpec:
    """One router version and the expert versions it may name, deployed together.

    `base` is the fingerprint of the base model that all of them were trained on.
    """

    base: str
    router: AdapterRef
    experts: tuple[AdapterRef, ...]

    @property
    def digest(self) -> str:
        """Content hash of the whole stack, the key of everything cached for it."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StackSpec:
        """Inverse of `dataclasses.asdict`."""
        return cls(
            base=data["base"],
            router=AdapterRef(**data["router"]),
            experts=tuple(AdapterRef(**expert) for expert in data["experts"]),
        )
