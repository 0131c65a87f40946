"""Which stacks may take the champion's place."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.models import AdapterVersion, Evaluation, Stack
from adapters.promotion.classes import Finding
from adapters.promotion.comparing import PromotionDecision, compare_stacks
from adapters.promotion.criteria import promotion_criteria
from adapters.services import build_stack
from datasets_app.errors import InputError
from tests.cast import digest, make_adapter, make_champion, make_version

OLD, NEW = ("calendar", "claim-window"), "provider-select"

pytestmark = pytest.mark.django_db


def evaluate(version: AdapterVersion, dataset: str, classes: dict[str, str], stack: Stack | None = None) -> Evaluation:
    """An evaluation that got of each class the samples right that are "1" in its text, as "1" * 19 + "0"."""
    samples: list[dict[str, Any]] = [
        {"id": f"{label}_{n}", "label": label, "routed": label if mark == "1" else "?", "correct": mark == "1"}
        for label, marks in classes.items() for n, mark in enumerate(marks)
    ]  # fmt: skip
    if stack is not None:
        for sample in samples:
            sample["end_to_end"] = {"valid": True, "exact": sample["correct"]}
    share = sum(sample["correct"] for sample in samples) / len(samples)
    return Evaluation.objects.create(
        version=version, stack=stack, dataset_name=dataset, dataset_digest=digest(dataset), samples=len(samples),
        accuracy=share, ci_low=share, ci_high=share, path=f"/nowhere/{Evaluation.objects.count()}",
        report={"samples": samples},
    )  # fmt: skip


def right(count: int, of: int = 120) -> str:
    return "1" * count + "0" * (of - count)


class Contest:
    """A champion of two classes, and a challenger of the classes that are given."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.champion = make_champion()
        for name in set(labels) - set(OLD):
            make_version(make_adapter(name))
        self.router = make_version(self.champion.router.adapter, labels)
        self.stack = build_stack(self.router)

    def on(self, dataset: str, champion: dict[str, str], challenger: dict[str, str]) -> None:
        """Both were asked the samples of a dataset."""
        evaluate(self.champion.router, dataset, champion)
        evaluate(self.router, dataset, challenger)

    def decide(self, **criteria: Any) -> PromotionDecision:
        return compare_stacks(self.stack, self.champion, promotion_criteria(**criteria))


@pytest.fixture
def same() -> Contest:
    return Contest(OLD)


@pytest.fixture
def more() -> Contest:
    return Contest((*OLD, NEW))


PERFECT = dict.fromkeys(OLD, right(120))
CANNOT = {**PERFECT, NEW: right(0)}


def test_chance_level_does_not_replace_a_perfect_champion() -> None:
    """Of three new classes and none of the champion's, 13 of 39 right."""
    contest = Contest(("a", "b", "c"))
    asked = dict.fromkeys("abc", right(0, 13))
    contest.on("new", asked, {"a": right(13, 13), "b": right(0, 13), "c": right(0, 13)})
    decision = contest.decide()
    assert decision.finding is Finding.REFUSED
    assert "router v2 cannot name 'calendar', 'claim-window', which router v1 serves" in decision.reason
    asked_for = contest.decide(drop=OLD)
    assert asked_for.finding is Finding.REFUSED
    assert "New class 'b' is below the floor of 80%: 0 of 13 right, 0.0% to 20.6%." in asked_for.reason


def test_a_class_that_is_lost_is_not_made_up_for_by_others(more: Contest) -> None:
    more.on("d", CANNOT, {"calendar": right(0, 20), "claim-window": right(120), NEW: right(120)})
    decision = more.decide()
    assert decision.finding is Finding.REFUSED
    assert "Class 'calendar' is worse: 0 of 20 right, the champion 20" in decision.reason


def test_a_new_class_must_be_above_the_floor(more: Contest) -> None:
    more.on("d", CANNOT, {**PERFECT, NEW: right(7, 20)})
    decision = more.decide()
    assert decision.finding is Finding.REFUSED
    assert "New class 'provider-select' is below the floor of 80%: 7 of 20 right" in decision.reason
    more.on("d", CANNOT, {**PERFECT, NEW: right(18, 20)})
    undecided = more.decide()
    assert undecided.finding is Finding.UNDECIDED
    assert "is not shown to be above the floor of 80%: 18 of 20 right, 71.7% to 98.2%; about 25 s" in undecided.reason
    assert more.decide(floor=0.7).approved


def test_a_class_without_samples_is_undecided(more: Contest) -> None:
    more.on("d", {"calendar": right(120), NEW: right(0)}, {"calendar": right(120), NEW: right(120)})
    decision = more.decide()
    assert decision.finding is Finding.UNDECIDED
    assert "Class 'claim-window' has no samples, 59 are needed to show 5 points." in decision.reason
    more.on("d", PERFECT, PERFECT)
    decision = more.decide()
    assert decision.finding is Finding.UNDECIDED
    assert "New class 'provider-select' has no samples, 14 are needed to show more than 80%." in decision.reason


@pytest.mark.parametrize(
    ("samples", "margin", "approved"), [(58, 0.05, 0), (59, 0.05, 1), (148, 0.02, 0), (149, 0.02, 1)]
)
def test_too_few_samples_are_undecided_with_the_number_needed(
    more: Contest, samples: int, margin: float, approved: bool
) -> None:
    asked = dict.fromkeys(OLD, right(samples, samples))
    more.on("d", {**asked, NEW: right(0)}, {**asked, NEW: right(120)})
    decision = more.decide(margin=margin)
    assert decision.approved == bool(approved)
    if not approved:
        assert decision.finding is Finding.UNDECIDED
        assert f"about {samples + 1} samples are needed" in decision.reason


def test_the_best_of_several_datasets_does_not_decide(same: Contest) -> None:
    """The challenger loses 45 of 100 on three, and wins 6 of 10 on a fourth."""
    for dataset in "abc":
        same.on(dataset, dict.fromkeys(OLD, right(50, 50)), dict.fromkeys(OLD, right(28, 50)))
    same.on("d", dict.fromkeys(OLD, right(2, 5)), dict.fromkeys(OLD, right(5, 5)))
    assert same.decide().finding is Finding.REFUSED


def test_one_dataset_for_and_another_against_is_undecided(more: Contest) -> None:
    more.on("good", CANNOT, {**PERFECT, NEW: right(120)})
    assert more.decide().approved
    more.on("bad", CANNOT, {**PERFECT, "calendar": right(60), NEW: right(120)})
    decision = more.decide()
    assert decision.finding is Finding.UNDECIDED
    assert "On good" in decision.reason
    assert "On bad" in decision.reason


def test_of_one_dataset_the_newest_evaluations_count(more: Contest) -> None:
    for new in (right(120), right(0)):
        more.on("d", CANNOT, {**PERFECT, NEW: new})
    assert more.decide().finding is Finding.REFUSED
    more.on("d", CANNOT, {**PERFECT, NEW: right(120)})
    assert more.decide().approved


def test_equals_stay_out(same: Contest) -> None:
    same.on("d", PERFECT, PERFECT)
    decision = same.decide()
    assert decision.finding is Finding.UNDECIDED
    assert "it is not shown to be better: undecided: of 240 samples" in decision.reason


def test_a_clear_gain_without_a_loss_is_approved(same: Contest) -> None:
    same.on("d", {**PERFECT, "calendar": right(100)}, PERFECT)
    decision = same.decide()
    assert decision.approved
    assert "only the challenger gets 20 right, only the champion 0" in decision.reason
    assert [(row.label, row.right, row.samples) for row in decision.classes] == [
        ("calendar", 120, 120), ("claim-window", 120, 120),
    ]  # fmt: skip


def test_a_class_more_without_a_loss_is_approved(more: Contest) -> None:
    more.on("d", CANNOT, {**PERFECT, NEW: right(118)})
    decision = more.decide()
    assert decision.approved
    assert decision.evaluation == Evaluation.objects.get(version=more.router)


def test_a_class_is_dropped_where_that_is_asked_for() -> None:
    contest = Contest(("calendar",))
    contest.on("d", PERFECT, {"calendar": right(120), "claim-window": right(0)})
    assert contest.decide().finding is Finding.REFUSED
    decision = contest.decide(drop=["claim-window"])
    assert decision.approved
    assert "Dropped as asked: claim-window." in decision.reason


def test_samples_that_only_one_was_asked_do_not_count(more: Contest) -> None:
    """As one of them was trained on the others."""
    evaluate(more.champion.router, "d", {**CANNOT, "calendar": right(50, 50)})
    evaluate(more.router, "d", {**PERFECT, NEW: right(120)})
    decision = more.decide()
    assert decision.finding is Finding.UNDECIDED
    assert "Class 'calendar' is not shown to fall by less than 5 points: 50 of 50 right" in decision.reason


def test_samples_left_out_are_told(more: Contest) -> None:
    more.on("d", CANNOT, {**PERFECT, NEW: right(120)})
    row = Evaluation.objects.get(version=more.router)
    row.report = {**row.report, "left_out": 13}
    row.save()
    assert "13 more left out that it was trained on" in more.decide().reason


def first(classes: dict[str, str]) -> PromotionDecision:
    stack = make_champion()
    evaluate(stack.router, "d", classes)
    return compare_stacks(stack, None, promotion_criteria())


def test_the_first_router_must_be_good_at_every_class() -> None:
    decision = first({"calendar": right(2, 8), "claim-window": right(2, 8)})
    assert decision.finding is Finding.REFUSED
    assert "New class 'calendar' is below the floor of 80%: 2 of 8 right" in decision.reason


def test_the_first_router_must_be_better_than_always_naming_the_largest_class() -> None:
    decision = first({"calendar": right(980, 1000), "claim-window": right(16, 16)})
    assert decision.finding is Finding.UNDECIDED
    assert "no more than the largest class's share of 98.4%" in decision.reason


def test_a_good_first_router_is_approved() -> None:
    assert first(PERFECT).approved


def test_a_router_that_was_never_evaluated_is_refused(same: Contest) -> None:
    assert same.decide().finding is Finding.REFUSED
    evaluate(same.router, "d", PERFECT)
    decision = same.decide()
    assert decision.finding is Finding.UNDECIDED
    assert "never evaluated on the same samples" in decision.reason


def test_another_version_of_an_expert_is_held_to_the_margin_by_its_answers(same: Contest) -> None:
    make_version(same.champion.experts.get(adapter__name="calendar").adapter)
    stack = build_stack(same.router)
    evaluate(same.champion.router, "d", {**PERFECT, "claim-window": right(90)}, same.champion)
    for calendar, finding, words in (
        (right(20, 20), Finding.UNDECIDED, "in class 'calendar' is not shown to fall by less than 5 points"),
        (right(100), Finding.REFUSED, "in class 'calendar' is worse: 100 of 120 right, the champion 120"),
        (right(120), Finding.APPROVED, "No class that both know falls by 5 points."),
    ):
        evaluate(same.router, "d", {**PERFECT, "calendar": calendar}, stack)
        decision = compare_stacks(stack, same.champion, promotion_criteria())
        assert decision.finding is finding, decision.reason
        assert words in decision.reason


@pytest.mark.parametrize("wrong", [{"margin": 0.0}, {"margin": 1.0}, {"floor": -1.0}, {"floor": float("nan")}])
def test_criteria_are_shares(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))}: .* is no share between 0 and 1"):
        promotion_criteria(**wrong)
