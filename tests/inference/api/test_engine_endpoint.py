"""GET /api/v1/engine/."""

from __future__ import annotations

from typing import Any

from rest_framework.test import APIClient

from inference.engines.base import EngineError

URL = "/api/v1/engine/"


def test_it_tells_what_the_engine_says(reader: APIClient, engine: Any) -> None:
    """As it is."""
    assert reader.get(URL).json() == {"device": "cpu"}


def test_it_says_when_the_engine_is_down(reader: APIClient, engine: Any) -> None:
    """503."""
    engine.failure = EngineError("The engine does not answer.")
    assert reader.get(URL).status_code == 503
