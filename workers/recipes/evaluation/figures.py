"""From outcomes to the figures of the report, each with its number of samples and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from inference.routing.metrics import (
    bootstrap_macro_f1,
    confusion,
    macro_f1,
    percentiles,
    recall_per_class,
    share,
)
from workers.recipes.evaluation.outcomes import Answer, Outcome


def report(kind: str, outcomes: Sequence[Outcome], labels: Sequence[str]) -> dict[str, Any]:
    """All figures of a router, an expert or a stack, and what came of each sample.

    `headline` is the one figure to compare subjects by: routing accuracy where there is a router, else the share
    of exact answers.
    """
    figures: dict[str, Any] = {}
    if kind != "expert":
        figures["routing"] = routing_figures(outcomes, labels)
    if kind == "stack":
        figures["end_to_end"] = answer_figures([outcome.end_to_end for outcome in outcomes])
        figures["experts"] = expert_figures(outcomes)
    if kind == "expert":
        figures["answers"] = answer_figures([outcome.expert for outcome in outcomes])
        headline = {"metric": "exact", **figures["answers"]["exact"]}
    else:
        headline = {"metric": "accuracy", **figures["routing"]["accuracy"]}
    return {
        "headline": headline,
        **figures,
        "mistakes": [mistake_record(outcome) for outcome in outcomes if is_mistake(outcome)],
        "samples": [sample_record(outcome) for outcome in outcomes],
    }


def routing_figures(outcomes: Sequence[Outcome], labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro-F1, recall per class and the confusion matrix (rows: right label, columns: answered)."""
    truth = [str(outcome.sample.label) for outcome in outcomes]
    routed = [str(outcome.routed) for outcome in outcomes]
    matrix = confusion(labels, truth, routed)
    low, high = bootstrap_macro_f1(matrix)
    return {
        "accuracy": asdict(share([a == b for a, b in zip(truth, routed, strict=True)])),
        "macro_f1": {"n": len(truth), "value": macro_f1(matrix), "ci_low": low, "ci_high": high},
        "recall": {label: asdict(recall) for label, recall in recall_per_class(labels, matrix).items()},
        "confusion": {"labels": list(labels), "matrix": matrix},
    }


def answer_figures(answers: Sequence[Answer | None]) -> dict[str, Any]:
    """Shares of well-formed and of exact answers among those that could be judged."""
    judged = [answer for answer in answers if answer is not None]
    return {
        "valid": asdict(share([answer.valid for answer in judged])),
        "exact": asdict(share([answer.exact for answer in judged])),
    }


def expert_figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """`answer_figures` of each expert on its own samples, whatever the router said."""
    answers: dict[str, list[Answer | None]] = {}
    for outcome in outcomes:
        if outcome.expert is not None:
            answers.setdefault(str(outcome.sample.label), []).append(outcome.expert)
    return {label: answer_figures(answers[label]) for label in sorted(answers)}


def latency_figures(milliseconds: Sequence[float]) -> dict[str, Any]:
    """Percentiles in milliseconds, one request at a time."""
    return {"n": len(milliseconds), **{name: round(value, 2) for name, value in percentiles(milliseconds).items()}}


def sample_record(outcome: Outcome) -> dict[str, Any]:
    """One line per sample, so that two subjects can be compared on the same samples later."""
    record: dict[str, Any] = {"id": outcome.sample.id}
    if outcome.routed is not None:
        label = outcome.sample.label
        record |= {"label": label, "routed": outcome.routed, "correct": outcome.routed == label}
    if outcome.probabilities is not None and outcome.routed is not None:
        record["probability"] = round(outcome.probabilities[outcome.routed], 6)
    for name, answer in (("end_to_end", outcome.end_to_end), ("expert", outcome.expert)):
        if answer is not None:
            record[name] = {"valid": answer.valid, "exact": answer.exact}
    return record


def is_mistake(outcome: Outcome) -> bool:
    """Whether the sample was routed or answered wrongly."""
    if outcome.routed is not None and outcome.routed != outcome.sample.label:
        return True
    answer = outcome.end_to_end or outcome.expert
    return answer is not None and not answer.exact


def mistake_record(outcome: Outcome) -> dict[str, Any]:
    """Everything about one mistake."""
    record = sample_record(outcome) | {"prompt": outcome.sample.words}
    if outcome.probabilities is not None:
        record["probabilities"] = {label: round(p, 4) for label, p in outcome.probabilities.items()}
    answer = outcome.end_to_end or outcome.expert
    if answer is not None:
        record |= {"expected": outcome.sample.answer, "text": answer.text}
    return record
