"""The product's app, deployed by the modal CLI."""

from __future__ import annotations

import os
import subprocess
import sys


def deploy(**environment: str) -> None:
    """`modal deploy`, with these variables in the environment."""
    words = [sys.executable, "-m", "modal", "deploy", "-m", "workers.modal_app"]
    done = subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
