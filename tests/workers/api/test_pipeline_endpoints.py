"""/api/v1/pipelines/."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cast import EXPERTS, make_client, make_experts
from workers.models import Pipeline
from workers.states import Status

URL = "/api/v1/pipelines/"

pytestmark = pytest.mark.django_db


def test_staff_launches_and_cancels_a_pipeline() -> None:
    """Four runs, in order."""
    make_experts()
    client = make_client(staff=True)
    response = client.post(URL, {"name": "first", "adapters": EXPERTS, "train": {"max_steps": 5}}, format="json")
    assert response.status_code == 201, response.content
    pipeline = response.json()
    assert [run["kind"] for run in pipeline["runs"]] == ["generate_dataset", "preprocess", "train", "evaluate"]
    assert pipeline["status"] == "queued"
    assert client.get(f"{URL}{pipeline['id']}/").json()["name"] == "first"
    assert client.get(URL).json()["count"] == 1
    cancelled = client.post(f"{URL}{pipeline['id']}/cancel/").json()
    assert {run["status"] for run in cancelled["runs"]} == {Status.CANCELLED}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"adapters": []},
        {"adapters": "calendar"},
        {"adapters": ["nobody"]},
        {"adapters": ["calendar", "calendar"]},
        {"adapters": [5]},
        {"adapters": ["calendar"], "negatives": ["nobody"]},
        {"adapters": ["calendar"], "samples_per_class": 0},
        {"adapters": ["calendar"], "samples_per_class": True},
        {"adapters": ["calendar"], "seed": -1},
        {"adapters": ["calendar"], "train": []},
        {"adapters": ["calendar"], "name": "../x"},
        {"adapters": ["calendar"], "status": "succeeded"},
    ],
)
def test_a_wrong_wish_is_400(body: Any) -> None:
    """And records nothing."""
    make_experts()
    response = make_client(staff=True).post(URL, body, format="json")
    assert response.status_code == 400, response.content
    assert not Pipeline.objects.exists()


def test_readers_launch_nothing() -> None:
    """403."""
    assert make_client().post(URL, {"adapters": EXPERTS}, format="json").status_code == 403
