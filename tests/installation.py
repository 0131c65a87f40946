"""One installation of its own for each process of a test session: data folder, secrets, broker socket.

A plugin (`-p tests.installation`), because pytest-django imports the settings before any conftest.py.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

DATA = Path(tempfile.mkdtemp(prefix="switchyard-test-"))
os.environ["SWITCHYARD_DATA"] = str(DATA)
os.environ.setdefault("SWITCHYARD_LOG_LEVEL", "WARNING")
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ["MODAL_CONFIG_PATH"] = str(DATA / "no-modal.toml")  # nobody's account
os.environ["SWITCHYARD_MODAL_GPUS"] = os.environ["SWITCHYARD_MODAL_SERVING_GPUS"] = ""  # the tests' plane has none


def pytest_unconfigure() -> None:
    """Remove the data folder."""
    shutil.rmtree(DATA, ignore_errors=True)
