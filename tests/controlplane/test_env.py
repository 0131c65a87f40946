"""The settings that come from the environment."""

from __future__ import annotations

import re

from controlplane.env import ROOT, env
from inference.engines.limits import Limits
from workers.recipes.train import Spec
from workers.remote.serving import Serving


def test_jobs_the_engine_and_modal_compute_in_the_same_precision() -> None:
    assert env.scheme["SWITCHYARD_DTYPE"][1] == Serving().dtype == Spec.model_fields["dtype"].default


def test_every_variable_that_is_read_is_listed() -> None:
    names = re.compile(r"""["'{]((?:SWITCHYARD|MODAL)_[A-Z_]*[A-Z]|(?:DATABASE|REDIS|EMAIL)_URL|SECRET_KEY)\b""")
    packages = ("adapters", "datasets_app", "inference", "workers", "platform")
    sources = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    read = {name for path in [*sources, ROOT / "Procfile"] for name in names.findall(path.read_text())}
    assert {"SWITCHYARD_PORT", "DATABASE_URL", "SWITCHYARD_MODAL_GPUS"} < read
    listed = (ROOT / "platform" / "controlplane" / "env.py").read_text()
    assert [name for name in sorted(read) if not re.search(rf"\b{name}\b", listed)] == []


def test_the_web_process_has_a_thread_for_everyone_whom_the_engine_takes_and_more() -> None:
    """So that the engine's bound refuses, not a queue that nobody sees, and /health answers meanwhile."""
    match = re.search(r"--threads \$\{SWITCHYARD_WEB_THREADS:-(\d+)\}", (ROOT / "Procfile").read_text())
    assert match is not None
    limits = Limits.from_env(on_gpu=True)
    assert int(match[1]) >= 1.5 * (limits.queue + limits.batch)
