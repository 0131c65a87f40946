"""POST /api/v1/adapters/<name>/promote/."""

from __future__ import annotations

from typing import Any

from rest_framework.test import APIClient

from adapters.models import Alias, Promotion
from tests.cast import make_champion, make_evaluation, make_experts, make_router, make_version

URL = "/api/v1/adapters/router/promote/"


def test_an_evaluated_router_goes_live(staff: APIClient, engine: Any, settings: Any) -> None:
    """Its stack is deployed, and is the champion."""
    settings.PROMOTION_FLOOR = 0.5
    make_experts()
    version = make_router()
    make_evaluation(version)
    response = staff.post(URL)
    assert response.status_code == 200, response.content
    assert response.json()["router"]["digest"] == version.digest
    assert response.json()["aliases"] == ["champion"]
    assert [stack.digest for stack in engine.stacks] == [response.json()["digest"]]
    assert Alias.objects.get(name="champion").stack.router == version


def test_one_without_evidence_does_not(staff: APIClient, engine: Any) -> None:
    """Unless it is forced."""
    make_experts()
    make_router()
    assert staff.post(URL).status_code == 400
    assert not Alias.objects.exists()
    assert staff.post(URL, {"force": True}, format="json").status_code == 400
    assert staff.post(URL, {"force_reason": " "}, format="json").status_code == 400
    assert not Alias.objects.exists()
    assert staff.post(URL, {"force_reason": "The old one is down."}, format="json").status_code == 200
    assert Promotion.objects.get().reason == "Forced: The old one is down."


def test_an_older_version_can_be_named(staff: APIClient, engine: Any) -> None:
    """By its number."""
    router = make_champion().router
    make_version(router.adapter, labels=("calendar",))
    response = staff.post(URL, {"version": 1, "force_reason": "Back."}, format="json")
    assert response.json()["router"]["number"] == 1
    assert staff.post(URL, {"version": 9}, format="json").status_code == 404


def test_an_expert_cannot_serve(staff: APIClient, engine: Any) -> None:
    """400."""
    make_experts()
    assert staff.post("/api/v1/adapters/calendar/promote/").status_code == 400


def test_readers_promote_nothing(reader: APIClient, engine: Any) -> None:
    """403."""
    make_experts()
    make_router()
    assert reader.post(URL).status_code == 403
