"""/api/v1/pipelines/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.cast import EXPERTS, make_champion, make_client, make_experts, make_routing_dataset, make_run
from workers.models import Pipeline
from workers.states import Status

URL = "/api/v1/pipelines/"

pytestmark = pytest.mark.django_db


def test_staff_launches_and_cancels_a_pipeline() -> None:
    """Four runs, in order."""
    make_experts()
    client = make_client(staff=True)
    wish = {"name": "first", "adapters": EXPERTS, "train": {"max_steps": 5}, "activated": True}
    response = client.post(URL, wish, format="json")
    assert response.status_code == 201, response.content
    pipeline = response.json()
    assert [run["kind"] for run in pipeline["runs"]] == ["generate_dataset", "preprocess", "train", "evaluate"]
    assert pipeline["runs"][2]["params"]["config"] == {"max_steps": 5, "activated": True}
    assert pipeline["status"] == "queued"
    assert client.get(f"{URL}{pipeline['id']}/").json()["name"] == "first"
    assert client.get(URL).json()["count"] == 1
    cancelled = client.post(f"{URL}{pipeline['id']}/cancel/").json()
    assert {run["status"] for run in cancelled["runs"]} == {Status.CANCELLED}
    assert (pipeline["cancel_requested"], cancelled["cancel_requested"]) == (False, True)


@pytest.mark.parametrize("url", [URL, "/admin/workers/pipeline/", "/admin/workers/run/progress/?ids={ids}"])
def test_pages_read_all_their_runs_at_once_and_no_report_of_them(url: str) -> None:
    """However many there are."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    earlier = make_run("earlier", Status.SUCCEEDED)

    def asked(number: int) -> list[str]:
        pipeline = Pipeline.objects.create(name=f"p{number}")
        runs = [make_run(f"p{number}-{step}", pipeline=pipeline, step=step, reused_from=earlier) for step in range(4)]
        with CaptureQueriesContext(connection) as queries:
            response = client.get(url.format(ids=",".join(str(run.pk) for run in runs)))
        assert response.status_code == 200
        return [query["sql"] for query in queries]

    asked(0)  # fills what is kept for later requests
    first, *_, last = [asked(number) for number in range(1, 6)]
    assert len(last) == len(first)
    assert not any('."summary"' in sql or '."spec"' in sql for sql in last)


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
        {"adapters": ["calendar"], "activated": "perhaps"},
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


def test_an_expert_is_added_by_one_request(samples: dict[str, Path]) -> None:
    """`kind` says what is to be done."""
    make_champion()
    client = make_client(staff=True)
    body = {
        "kind": "add_expert",
        "name": "provider-select",
        "source": str(samples["provider-select"]),
        "pipeline": "add",
        "live": "never",
        "margin": 0.02,
        "floor": 0.9,
        "samples_per_class": 9,
        "max_pixels": 16 * 1024,
    }
    response = client.post(URL, body, format="json")
    assert response.status_code == 201, response.content
    pipeline = response.json()
    assert (pipeline["name"], pipeline["kind"], pipeline["live"]) == ("add", "add_expert", "never")
    assert (pipeline["wish"]["margin"], pipeline["wish"]["floor"]) == (0.02, 0.9)
    assert pipeline["runs"][2]["params"]["adapters"] == [*EXPERTS, "provider-select"]
    assert pipeline["runs"][3]["params"]["max_pixels"] == 16 * 1024
    assert pipeline["runs"][-1]["params"]["serving"] is True
    assert pipeline["verdict"] == ""
    again = client.post(f"{URL}{pipeline['id']}/retry/")
    assert again.status_code == 400
    assert "cancel it first, or wait" in again.json()["error"]["message"]
    client.post(f"{URL}{pipeline['id']}/cancel/")
    assert {run["status"] for run in client.post(f"{URL}{pipeline['id']}/retry/").json()["runs"]} == {Status.QUEUED}


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "bake"},
        {"kind": ["router"]},
        {"kind": "add_expert"},
        {"kind": "add_expert", "name": "x", "source": "/nowhere"},
        {"kind": "add_expert", "name": "x", "source": "/" + "x" * 300},
        {"kind": "add_expert", "name": "x", "source": "~nobody-here/x"},
        {"kind": "add_expert", "name": "x", "source": "/nowhere", "live": "always"},
        {"kind": "add_expert", "name": "x", "source": "/nowhere", "adapters": ["calendar"]},
        {"kind": "expert", "adapter": "nobody"},
        {"kind": "retrain_router", "seed": "1"},
        {"kind": "retrain_router", "margin": 0},
        {"kind": "retrain_router", "margin": "0.1"},
        {"kind": "retrain_router", "floor": True},
        {"kind": "retrain_router", "drop": ["nothing"]},
        {"kind": "retrain_router", "max_pixels": 1000},
        {"kind": "router", "adapters": ["calendar", "claim-window"], "max_pixels": 2**40},
        {"kind": "reevaluate", "fresh_samples": -1},
        {"kind": "reevaluate"},
        [],
        "add_expert",
    ],
)
def test_a_wrong_wish_of_any_kind_is_400(body: Any) -> None:
    """And records nothing."""
    make_experts()
    response = make_client(staff=True).post(URL, body, format="json")
    assert response.status_code == 400, response.content
    assert not Pipeline.objects.exists()


def test_a_failed_run_is_tried_again() -> None:
    """Only by staff, and only if it has failed."""
    make_routing_dataset()
    run = make_run("a", Status.FAILED, params={"dataset": "routing_20260101_120000"})
    url = f"/api/v1/runs/{run.pk}/retry/"
    assert make_client().post(url).status_code == 403
    client = make_client(staff=True)
    response = client.post(url)
    assert response.status_code == 201, response.content
    assert (response.json()["name"], response.json()["status"]) == ("a", "queued")
    assert client.post(f"/api/v1/runs/{response.json()['id']}/retry/").status_code == 400
