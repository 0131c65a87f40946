"""What `/ready` says of the engine."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.controlplane.test_web import Unhurried
from tests.inference.engines.served import served

pytestmark = pytest.mark.django_db


def test_a_stalled_engine_is_not_ready_and_is_called_so(client: Client, settings: Any) -> None:
    engine = Unhurried()
    with served(engine, "token") as url:
        settings.ENGINE = {
            "BACKEND": "inference.engines.remote.RemoteEngine",
            "OPTIONS": {"url": url, "token": "token"},
        }
        assert client.get("/ready").json()["engine"] == "ok"
        engine.is_stalled = True
        answer = client.get("/ready")
    assert (answer.status_code, answer.json()["engine"]) == (503, "stalled")
    assert client.get("/ready").json()["engine"] == "failing"
