"""How well a router routes: pure functions of counts.

Intervals are Wilson's score intervals (E. B. Wilson, "Probable inference, the law of succession, and statistical
inference", JASA 22, 1927): with p = k/n and z the normal quantile,
`(p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)`. Unlike p ± z·√(p(1-p)/n) it is sensible for small n and at 0%
and 100%.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """`k` of `n` samples, with the 95% interval `ci_low` to `ci_high`; `value` is k/n, 0 where n is 0."""

    k: int
    n: int
    value: float
    ci_low: float
    ci_high: float


def wilson(k: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval for `k` successes in `n` trials, (0, 1) where n is 0. ValueError unless 0 <= k <= n."""
    if not 0 <= k <= n:
        raise ValueError(f"k must lie between 0 and n, not {k} of {n}")
    if n == 0:
        return 0.0, 1.0
    p, z2 = k / n, z * z
    middle = p + z2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    low = 0.0 if k == 0 else (middle - half) / scale
    high = 1.0 if k == n else (middle + half) / scale
    return low, high


def share(outcomes: Sequence[bool]) -> Share:
    """How many of `outcomes` are true, with the interval."""
    k, n = sum(outcomes), len(outcomes)
    low, high = wilson(k, n)
    return Share(k, n, k / n if n else 0.0, low, high)


def confusion(labels: Sequence[str], truth: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
    """Counts by true label (row) and answered label (column), both in the order of `labels`.

    ValueError for a label that is not in `labels`, or unequal lengths.
    """
    index = {label: number for number, label in enumerate(labels)}
    counts = [[0] * len(labels) for _ in labels]
    for true, answered in zip(truth, answers, strict=True):
        if true not in index or answered not in index:
            raise ValueError(f"label {true!r} or {answered!r} is unknown")
        counts[index[true]][index[answered]] += 1
    return counts


def recall_per_class(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> dict[str, Share]:
    """Of each label's samples, the share that was answered with it; `matrix` as `confusion` returns it."""
    recalls = {}
    for number, label in enumerate(labels):
        k, n = matrix[number][number], sum(matrix[number])
        low, high = wilson(k, n)
        recalls[label] = Share(k, n, k / n if n else 0.0, low, high)
    return recalls


def macro_f1(matrix: Sequence[Sequence[int]]) -> float:
    """Mean of the labels' F1 = 2·TP / (2·TP + FP + FN), over the labels that occur as truth or answer."""
    scores = []
    for number, row in enumerate(matrix):
        hits = row[number]
        missed = sum(row) - hits
        false = sum(other[number] for other in matrix) - hits
        if hits + missed + false:
            scores.append(2 * hits / (2 * hits + missed + false))
    return sum(scores) / len(scores) if scores else 0.0


def percentiles(values: Sequence[float], at: Sequence[int] = (50, 90, 99)) -> Mapping[str, float]:
    """Percentiles by nearest rank, as {"p50": …}; empty without values."""
    ordered = sorted(values)
    return {f"p{p}": ordered[max(0, math.ceil(p / 100 * len(ordered)) - 1)] for p in at} if ordered else {}


def bootstrap_macro_f1(matrix: Sequence[Sequence[int]], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95% percentile bootstrap interval of macro-F1 (B. Efron, "Bootstrap methods", Ann. Statist. 7, 1979).

    Drawing n samples with replacement is drawing the cells of the confusion matrix from a multinomial. Without a
    single mistake every draw is the same, and the interval says nothing about mistakes not seen yet; (0, 1) where
    the matrix is empty.
    """
    cells = np.asarray(matrix, dtype=np.float64)
    total = int(cells.sum())
    if total == 0:
        return 0.0, 1.0
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(total, cells.ravel() / total, size=resamples).reshape(-1, *cells.shape)
    hits = np.diagonal(drawn, axis1=1, axis2=2)
    involved = drawn.sum(axis=1) + drawn.sum(axis=2)
    present = involved > 0
    f1 = np.where(present, 2 * hits / np.maximum(involved, 1), 0.0).sum(axis=1) / present.sum(axis=1)
    low, high = np.quantile(f1, (0.025, 0.975))
    return float(low), float(high)
