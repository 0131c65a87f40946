"""Kinds of job as the control plane sees them: parameters in, a recipe's spec, a recorded result.

A kind is a module here with `Params`, `check`, `resolve` and `finalize` (see `base.Kind`), and a recipe of the
same name in `workers.recipes`.
"""

from __future__ import annotations

import importlib
from typing import cast

from workers.kinds.base import Kind

KINDS = {
    "generate_dataset": "workers.kinds.generate_dataset",
    "preprocess": "workers.kinds.preprocess",
    "train": "workers.kinds.train",
    "evaluate": "workers.kinds.evaluate",
    "fetch": "workers.kinds.fetch",
}
HERE = {"fetch": "local"}
"""Kinds that run on one backend, whichever is chosen for the others."""
NAMES = {"generate_dataset": "routing"}
"""How the made-up names of a kind's runs begin, where not with the kind."""


def get_kind(name: str) -> Kind:
    """The module of the kind called `name`."""
    return cast(Kind, importlib.import_module(KINDS[name]))


def parameters() -> str:
    """What each kind takes, for people."""
    return "; ".join(f"{kind}: {', '.join(get_kind(kind).Params.model_fields)}" for kind in KINDS)
