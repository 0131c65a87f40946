"""By hand, to the very stack that served before."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from adapters.models import Promotion, Stack
from adapters.selectors import champion
from adapters.services import build_stack, switch_champion
from adapters.switch import Switch
from datasets_app.errors import InputError
from inference.engines.base import EngineError
from inference.services import promote, roll_back
from tests.cast import make_champion, make_evaluation, make_version
from tests.workers.services.conftest import RecordingEngine

pytestmark = pytest.mark.django_db


def next_stack(stack: Stack) -> Stack:
    """A newer version of the stack's router, with a newer one of each of its experts."""
    for expert in stack.experts.select_related("adapter"):
        make_version(expert.adapter)
    return build_stack(make_version(stack.router.adapter, tuple(stack.router.card["labels"])))


@pytest.fixture
def first() -> Stack:
    """What has served from the beginning."""
    stack = make_champion()
    Promotion.objects.create(stack=stack, evaluation=make_evaluation(stack.router))
    return stack


@pytest.fixture
def second(first: Stack) -> Stack:
    """What serves in its place."""
    stack = next_stack(first)
    switch_champion(Switch(stack, first))
    return stack


def test_the_very_stack_that_served_before_serves_again(first: Stack, second: Stack, engine: RecordingEngine) -> None:
    """With its own experts, although newer ones are current; the figure it was promoted on counts again."""
    user = User.objects.create_user("operator")
    assert roll_back(reason="It names calendar for everything.", user=user) == first
    assert (champion(), engine.deployed) == (first, [first.digest])
    made = Promotion.objects.latest("id")
    assert (made.stack, made.previous, made.is_rollback, made.created_by) == (first, second, True, user)
    assert made.reason == "It names calendar for everything."
    assert made.evaluation is not None
    assert made.evaluation.version == first.router


def test_twice_is_once(first: Stack, second: Stack, engine: RecordingEngine) -> None:
    """Whether or not it is said what is to serve no more."""
    third = next_stack(second)
    switch_champion(Switch(third, second))
    roll_back(reason="bad")
    with pytest.raises(InputError, match="serves since a rollback"):
        roll_back(reason="bad")
    assert roll_back(third, reason="bad") == second
    assert champion() == second
    assert Promotion.objects.filter(is_rollback=True).count() == 1


def test_further_back_by_name_as_far_as_anything_has_served(
    first: Stack, second: Stack, engine: RecordingEngine
) -> None:
    """Step by step the way that led there, also where a stack has served twice."""
    again = [Switch(first, second), Switch(second, first)]
    for switch in again:
        switch_champion(switch)
    served = [roll_back(stack, reason="bad") for stack in (second, first, second)]
    assert served == [first, second, first]
    with pytest.raises(InputError, match="No stack served before"):
        roll_back(first, reason="bad")
    assert champion() == first


def test_after_a_rollback_and_a_promotion_the_way_leads_back_to_what_served_between(
    first: Stack, second: Stack, engine: RecordingEngine
) -> None:
    roll_back(reason="bad")
    third = next_stack(second)
    switch_champion(Switch(third, first))
    assert roll_back(reason="bad, too") == first


def test_nothing_changes_while_the_engine_is_down(first: Stack, second: Stack, engine: RecordingEngine) -> None:
    engine.error = EngineError("The engine is not running.")
    with pytest.raises(EngineError):
        roll_back(reason="bad")
    with pytest.raises(CommandError, match="The engine is not running") as caught:
        call_command("roll_back")
    assert caught.value.returncode == 1
    assert champion() == second
    assert not Promotion.objects.filter(is_rollback=True).exists()


def test_what_goes_live_meanwhile_stays(
    first: Stack, second: Stack, engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what serves and the switch."""
    third = next_stack(second)
    monkeypatch.setattr(engine, "deploy", lambda stack: switch_champion(Switch(third, second)))
    with pytest.raises(InputError, match="went live meanwhile"):
        roll_back(reason="bad")
    assert champion() == third


def test_a_stack_that_does_not_serve_is_not_rolled_back(first: Stack, second: Stack, engine: RecordingEngine) -> None:
    with pytest.raises(InputError, match="does not serve"):
        roll_back(first, reason="bad")
    assert champion() == second


def test_where_nothing_serves_there_is_nothing_to_roll_back(engine: RecordingEngine) -> None:
    with pytest.raises(InputError, match="No router is live yet"):
        roll_back(reason="bad")


def test_the_command_says_what_is_live_and_records_who(
    first: Stack,
    second: Stack,
    engine: RecordingEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    call_command("roll_back", reason="Wrong screens")
    assert capsys.readouterr().out == f"router v1 is live again: {first.digest}\n"
    assert Promotion.objects.latest("id").reason == "Wrong screens (ada, on the command line)"
    with pytest.raises(CommandError, match="There is no stack 'sha256:0'") as caught:
        call_command("roll_back", stack="sha256:0")
    assert caught.value.returncode == 2


def test_a_promotion_records_who(first: Stack, engine: RecordingEngine) -> None:
    user = User.objects.create_user("operator")
    promote(next_stack(first).router, force_reason="To go on.", user=user)
    made = Promotion.objects.latest("id")
    assert (made.created_by, made.reason, made.is_rollback) == (user, "Forced: To go on.", False)


def test_the_promote_command_prints_the_figure_with_its_interval_and_the_reason(
    first: Stack, engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    second = next_stack(first)
    with pytest.raises(CommandError, match="was never evaluated"):
        call_command("promote", "router")
    call_command("promote", "router", force="The old one is down")
    live, figure, reason = capsys.readouterr().out.splitlines()
    assert live == f"router v2 is live: {second.digest}"
    assert figure == "It was never evaluated."
    assert reason == "Forced: The old one is down (ada, on the command line)"
    evaluation = make_evaluation(second.router)
    Promotion.objects.filter(stack=second).update(evaluation=evaluation)
    call_command("promote", "router")
    assert "router v2 on routing_20260101_120000: 95.0% (83.5%-98.6%)" in capsys.readouterr().out
