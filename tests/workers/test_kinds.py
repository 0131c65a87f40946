"""Every table that names the kinds of job names all of them."""

from __future__ import annotations

import re

from controlplane.env import ROOT
from workers.kinds import HERE, KINDS, NAMES, get_kind, parameters
from workers.models import Run
from workers.recipes import RECIPES
from workers.recipes.packages import PACKAGES
from workers.remote.machines import MACHINES, TIME_LIMITS


def test_what_is_said_of_one_kind_is_said_of_all() -> None:
    app = (ROOT / "workers" / "modal_app.py").read_text()
    everywhere = {
        "KINDS": set(KINDS),
        "RECIPES": set(RECIPES),
        "Run.Kind": set(Run.Kind.values),
        "PACKAGES": set(PACKAGES),
        "MACHINES": set(MACHINES) | set(HERE),
        "TIME_LIMITS": set(TIME_LIMITS) | set(HERE),
        "modal_app.py": set(re.findall(r"^def (\w+)_job\(", app, re.MULTILINE)) | set(HERE),
    }
    assert everywhere == {name: set(KINDS) for name in everywhere}
    assert set(NAMES) <= set(KINDS)


def test_what_runs_here_alone_needs_nothing_on_modal() -> None:
    assert not set(HERE) & (set(MACHINES) | set(TIME_LIMITS))


def test_people_are_told_every_parameter_of_every_kind() -> None:
    for kind in KINDS:
        assert f"{kind}: {', '.join(get_kind(kind).Params.model_fields)}" in parameters()
