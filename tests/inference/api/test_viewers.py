"""What the API says of the server to people who are not staff."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from adapters.models import Stack
from inference.engines.base import EngineError
from tests.cast import make_run
from tests.inference.api.conftest import ScriptedEngine
from tests.inference.api.test_client_habits import IMAGE
from tests.inference.api.test_error_shape import refused
from workers.models import Pipeline
from workers.states import Status

SECRETS = ["/srv/switchyard/var", "var/jobs/ab/out", "http://10.0.0.3:8901"]
TEXT = f"It failed in {SECRETS[0]}, {SECRETS[1]}, at {SECRETS[2]}."


def says_nothing(response: Any) -> bool:
    return not any(secret in response.content.decode() for secret in SECRETS)


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_out_of_reach_tells_no_address(
    reader: APIClient, engine: ScriptedEngine, champion: Stack, stream: bool
) -> None:
    engine.failure = EngineError(TEXT)
    response = reader.post("/api/v1/infer/", {"image": IMAGE, "prompt": "x", "stream": stream}, format="json")
    assert refused(response, 503)["message"].startswith("It failed in …")
    assert says_nothing(response)


def test_errors_of_jobs_tell_places_to_staff_alone(
    reader: APIClient, staff: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.services.log_tail", lambda run, lines: TEXT)
    pipeline = Pipeline.objects.create(name="first", trouble=TEXT, verdict=TEXT)
    run = make_run("first", Status.FAILED, error=TEXT, trouble=TEXT, pipeline=pipeline)
    run.attempts.create(number=1, error=TEXT)
    for path in ("runs/", f"runs/{run.pk}/", f"runs/{run.pk}/log/", "pipelines/", f"pipelines/{pipeline.pk}/"):
        response = reader.get(f"/api/v1/{path}")
        assert "It failed in …" in str(response.json())
        assert says_nothing(response)
        assert SECRETS[2] in staff.get(f"/api/v1/{path}").content.decode()


def test_the_engine_s_own_account_tells_its_server_to_staff_alone(
    reader: APIClient, staff: APIClient, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engine), "status", lambda self: {"server": SECRETS[2], "out_of_service": {"x": [TEXT]}})
    assert says_nothing(reader.get("/api/v1/engine/"))
    assert staff.get("/api/v1/engine/").json()["server"] == SECRETS[2]
