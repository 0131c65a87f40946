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


def get_kind(name: str) -> Kind:
    """The module of the kind called `name`."""
    return cast(Kind, importlib.import_module(KINDS[name]))
