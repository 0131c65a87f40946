"""The source root `platform/`, and what the web process may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_platform_is_the_standard_librarys() -> None:
    assert python("import platform; print(platform.__file__)").endswith("platform.py")
    assert python("import platform; print(bool(platform.machine()))") == "True"


def test_platform_is_a_source_root_and_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert [path.name for path in (ROOT / "platform").iterdir() if path.is_dir() and path.name != "__pycache__"] == [
        "controlplane"
    ]


@pytest.mark.parametrize("library", ["torch", "transformers", "peft", "trl", "modal"])
def test_the_web_process_imports_no_gpu_library(library: str) -> None:
    code = (
        "import sys, controlplane.wsgi\n"
        "from django.urls import get_resolver\n"
        "get_resolver().reverse_dict\n"
        "import workers.tasks, workers.kinds.train, workers.kinds.evaluate\n"
        "import inference.engines.http, inference.services; inference.services.get_engine()\n"
        f"print({library!r} in sys.modules)"
    )
    assert python(code) == "False"


def test_the_shared_tasks_are_bound_to_our_celery_app() -> None:
    assert python("import controlplane.wsgi, workers.tasks; print(workers.tasks.reconcile.app.main)") == "switchyard"


def test_no_migration_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"], cwd=ROOT, check=False
    )
    assert done.returncode == 0
