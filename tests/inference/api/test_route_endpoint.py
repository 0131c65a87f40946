"""POST /api/v1/route/."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from rest_framework.test import APIClient

from tests.cast import png

URL = "/api/v1/route/"
BODY = {"image": base64.b64encode(png()).decode(), "prompt": "Open May 4."}

pytestmark = pytest.mark.usefixtures("champion")


def test_the_decision_alone_is_returned(reader: APIClient, engine: Any) -> None:
    """No answer is generated."""
    response = reader.post(URL, BODY, format="json")
    assert response.status_code == 200
    assert response.json()["adapter"] == "calendar"
    assert "text" not in response.json()


def test_max_tokens_means_nothing_here(reader: APIClient, engine: Any) -> None:
    """So it is refused."""
    assert reader.post(URL, {**BODY, "max_tokens": 5}, format="json").status_code == 400
