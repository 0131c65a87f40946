"""What an evaluation says of each sample, by the sample's id."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from adapters.models import Evaluation

Right = dict[str, bool]
Reader = Callable[[Evaluation, Collection[str] | None], Right]


def routed_right(evaluation: Evaluation, labels: Collection[str] | None = None) -> Right:
    """Which samples were routed right; `labels` leaves only those of these classes."""
    return {
        sample["id"]: sample["correct"]
        for sample in evaluation.report["samples"]
        if labels is None or sample["label"] in labels
    }


def answered_right(evaluation: Evaluation, labels: Collection[str] | None = None) -> Right:
    """Which samples the stack answered exactly, of those whose answer is known; `labels` likewise."""
    return {
        sample["id"]: sample["end_to_end"]["exact"]
        for sample in evaluation.report["samples"]
        if "end_to_end" in sample and (labels is None or sample["label"] in labels)
    }


def shared(first: Mapping[str, bool], second: Mapping[str, bool]) -> tuple[Right, Right]:
    """Both on the samples that both have."""
    keys = first.keys() & second.keys()
    return {key: first[key] for key in keys}, {key: second[key] for key in keys}


def read_pair(
    read: Reader, champion: Evaluation, challenger: Evaluation, labels: Collection[str]
) -> tuple[Right, Right]:
    """What `read` says of the champion and of the challenger, on the samples of these classes that both were asked."""
    return shared(read(champion, labels), read(challenger, labels))
