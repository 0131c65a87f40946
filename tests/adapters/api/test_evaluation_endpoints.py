"""/api/v1/evaluations/ and /api/v1/stacks/."""

from __future__ import annotations

import pytest

from tests.cast import make_champion, make_client, make_evaluation

pytestmark = pytest.mark.django_db


def test_figures_come_with_their_interval() -> None:
    """In the list; everything measured in the detail."""
    evaluation = make_evaluation(make_champion().router)
    client = make_client()
    (row,) = client.get("/api/v1/evaluations/").json()["results"]
    assert (row["accuracy"], row["ci_low"], row["ci_high"]) == (0.95, 0.835, 0.986)
    assert row["version"]["adapter"] == "router"
    assert "path" not in row
    detail = client.get(f"/api/v1/evaluations/{evaluation.pk}/").json()
    assert detail["report"]["headline"]["n"] == 40
    assert client.get("/api/v1/evaluations/99/").status_code == 404


def test_stacks_tell_which_one_serves() -> None:
    """By their aliases."""
    stack = make_champion()
    (row,) = make_client().get("/api/v1/stacks/").json()["results"]
    assert row["digest"] == stack.digest
    assert row["aliases"] == ["champion"]
    assert [expert["adapter"] for expert in row["experts"]] == ["claim-window", "calendar"]
    assert row["sharing"] == []


def test_stacks_tell_who_continues_the_router_s_prefix() -> None:
    """Experts that are activated as the router is, and are shown the same."""
    stack = make_champion()
    for version, system in ((stack.router, None), (stack.experts.first(), None), (stack.experts.last(), "Click.")):
        assert version is not None
        version.card |= {"invocation": [7, 8], "system": system}
        version.save()
    (row,) = make_client().get("/api/v1/stacks/").json()["results"]
    assert row["sharing"] == [row["experts"][0]["adapter"]]
