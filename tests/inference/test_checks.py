"""The engine's settings, from the environment to `manage.py check`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from controlplane.env import ROOT
from inference.checks import engine_has_an_address
from inference.services import get_engine


def manage_check(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHYARD_ENGINE")}
    words = [sys.executable, "manage.py", "check"]
    return subprocess.run(
        words, env=kept | environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_engine_http_has_no_default_address() -> None:
    done = manage_check(SWITCHYARD_ENGINE="http")
    assert done.returncode == 1
    assert "HttpEngine has no address" in done.stderr
    assert "SWITCHYARD_ENGINE_URL" in done.stderr


def test_an_unknown_engine_is_refused() -> None:
    done = manage_check(SWITCHYARD_ENGINE="vllm")
    assert done.returncode != 0
    assert "SWITCHYARD_ENGINE must be one of remote, modal, http" in done.stderr


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://", "http://[", "//host", "/v1"])
def test_what_is_no_address_is_told(settings: Any, url: str) -> None:
    settings.ENGINE = {"BACKEND": "an.Engine", "OPTIONS": {"url": url}}
    assert [error.id for error in engine_has_an_address()] == ["inference.E001"]


@pytest.mark.parametrize("options", [{}, {"url": "http://127.0.0.1:8000"}, {"url": "https://vllm.internal"}])
def test_an_engine_without_or_with_an_address_is_fine(settings: Any, options: dict[str, str]) -> None:
    settings.ENGINE = {"BACKEND": "an.Engine", "OPTIONS": options}
    assert engine_has_an_address() == []


@pytest.mark.parametrize("name", ["remote", "http"])
def test_the_settings_make_the_engine(settings: Any, name: str) -> None:
    entry = settings.ENGINES[name]
    settings.ENGINE = entry | {"OPTIONS": entry["OPTIONS"] | {"url": "http://127.0.0.1:1"}}
    get_engine.cache_clear()
    assert type(get_engine()).__name__.lower() == f"{name}engine"
    get_engine.cache_clear()
