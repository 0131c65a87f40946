"""The settings that come from the environment."""

from __future__ import annotations

import re
import subprocess

import pytest

from controlplane.env import ROOT, env
from controlplane.supervisor import read_procfile
from inference.engines.limits import RANGES, VARIABLE, Limits
from workers.recipes.train import Spec
from workers.remote.names import Names
from workers.remote.serving import Serving


def test_jobs_the_engine_and_modal_compute_in_the_same_precision() -> None:
    assert env.scheme["SWITCHYARD_DTYPE"][1] == Serving().dtype == Spec.model_fields["dtype"].default


def written(default: object) -> str:
    return (
        ",".join(default)
        if isinstance(default, list)
        else f"{default:g}"
        if isinstance(default, float)
        else str(default)
    )


def tables() -> dict[str, str]:
    """The defaults that stand in tables of the sources."""
    limits = Limits()
    return {
        **{name: written(default) for name, (_, default) in env.scheme.items()},
        **{
            VARIABLE.format(name.upper()): written(getattr(limits, name, getattr(limits, f"{name}_s", None)))
            for name in RANGES
        },
        **Names().as_env(),
        **Serving().as_env(),
    }


def test_the_docs_list_every_variable_and_no_other_with_its_default() -> None:
    names = re.compile(r"\b((?:SWITCHYARD|MODAL)_[A-Z_]*[A-Z]|(?:DATABASE|REDIS|EMAIL)_URL|SECRET_KEY)\b")
    packages = ("adapters", "datasets_app", "inference", "workers", "platform")
    sources = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    read = {name for path in [*sources, ROOT / "Procfile"] for name in names.findall(path.read_text())}
    assert {"SWITCHYARD_PORT", "DATABASE_URL", "SWITCHYARD_MODAL_GPUS"} < read
    rows = [line.split("|") for line in (ROOT / "docs" / "settings.md").read_text().splitlines() if line[:3] == "| `"]
    listed = {name.strip(" `"): default.strip(" `") for _, name, default, *_ in rows}
    assert len(listed) == len(rows), "a variable stands there twice"
    assert sorted(listed) == sorted(read | set(tables()))
    told = {name for page in (ROOT / "docs").glob("*.md") for name in names.findall(page.read_text())}
    assert told - set(listed) == set()
    of_the_machine = {"SWITCHYARD_DATA", "SWITCHYARD_LOCAL_SLOTS"}
    assert {name: listed[name] for name in tables() if name not in of_the_machine} == {
        name: default for name, default in tables().items() if name not in of_the_machine
    }


def test_the_web_process_listens_where_it_is_told_to() -> None:
    (web,) = read_procfile(["web"])

    def bound(**variables: str) -> str:
        done = subprocess.run(["/bin/sh", "-c", f"echo {web.command}"], env=variables, capture_output=True, text=True)
        return done.stdout.partition("--bind ")[2].split()[0]

    assert bound() == "127.0.0.1:8000"
    assert bound(SWITCHYARD_BIND="10.0.0.5", SWITCHYARD_PORT="80") == "10.0.0.5:80"


def test_the_web_process_has_a_thread_for_everyone_whom_the_engine_takes_and_more() -> None:
    """So that the engine's bound refuses, not a queue that nobody sees, and /health answers meanwhile."""
    match = re.search(r"--threads \$\{SWITCHYARD_WEB_THREADS:-(\d+)\}", (ROOT / "Procfile").read_text())
    assert match is not None
    limits = Limits.from_env(on_gpu=True)
    assert int(match[1]) >= 1.5 * (limits.queue + limits.batch)


def test_an_empty_url_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "EMAIL_URL"):
        monkeypatch.setenv(name, "")
    assert env.db_url("DATABASE_URL", default="sqlite:////data/db.sqlite3")["NAME"] == "/data/db.sqlite3"
    assert env.email_url("EMAIL_URL", default="consolemail://")["EMAIL_BACKEND"].endswith("console.EmailBackend")
