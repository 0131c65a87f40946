"""POST /api/v1/roll_back/."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from adapters.models import Promotion, Stack
from adapters.selectors import champion
from adapters.services import build_stack, switch_champion
from adapters.switch import Switch
from inference.engines.base import EngineError
from tests.cast import make_version

URL = "/api/v1/roll_back/"


@pytest.fixture
def newer(champion: Stack) -> Stack:
    """What serves in the champion's place."""
    stack = build_stack(make_version(champion.router.adapter, labels=("calendar",)))
    switch_champion(Switch(stack, champion))
    return stack


def test_the_stack_before_serves_again(staff: APIClient, engine: Any, champion: Stack, newer: Stack) -> None:
    """Asked twice of the same stack, once."""
    for _ in range(2):
        response = staff.post(URL, {"stack": newer.digest, "reason": "bad"}, format="json")
        assert response.status_code == 200, response.content
        assert (response.json()["digest"], response.json()["aliases"]) == (champion.digest, ["champion"])
    made = Promotion.objects.get(is_rollback=True)
    assert (made.reason, made.created_by.username) == ("bad", "staff")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "body",
    [{"stack": "sha256:0"}, {"stack": 5}, {"stack": None}, {"reason": ""}, {"stacks": "x"}],
)
def test_a_wrong_wish_is_400(staff: APIClient, engine: Any, newer: Stack, body: dict[str, Any]) -> None:
    """And changes nothing."""
    assert staff.post(URL, body, format="json").status_code == 400
    assert champion() == newer


def test_nothing_earlier_is_400_and_an_engine_that_is_down_503(
    staff: APIClient, engine: Any, newer: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its sentence."""

    def down(stack: object) -> None:
        raise EngineError("The engine is not running.")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "deploy", down)
        response = staff.post(URL)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "engine_unavailable")
    assert champion() == newer
    first = staff.post(URL).json()["digest"]
    response = staff.post(URL, {"stack": first}, format="json")
    assert response.status_code == 400
    assert "No stack served before" in response.json()["error"]["message"]


def test_readers_roll_nothing_back(reader: APIClient, engine: Any, newer: Stack) -> None:
    """403."""
    assert reader.post(URL).status_code == 403
    assert champion() == newer
