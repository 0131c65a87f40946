"""The tests and bounds of the promotion rule: pure functions of counts, one-sided at 5% where nothing else is said."""

from __future__ import annotations

from math import ceil, comb, log, log1p, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betaincinv, gammaln

ALPHA = 0.05
Z_ALPHA = 1.6448536269514722  # the normal distribution exceeds it with probability ALPHA
_NUISANCE_STEPS = 400
_DEVIATIONS = 12  # beyond so many standard deviations, and so many losses, lies nothing that counts

Floats = NDArray[np.float64]


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided p-value of the exact McNemar test: discordant pairs are coin flips if neither is better.

    McNemar, Psychometrika 12 (1947) 153-157, with the binomial distribution in place of its approximation.
    """
    discordant = wins + losses
    ways = sum(comb(discordant, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * ways / (1 << discordant))


def fisher(right_then: int, n_then: int, right_now: int, n_now: int) -> float:
    """One-sided p-value of Fisher's exact test: how likely as few right of `n_now` are, if nothing has changed.

    Fisher, Journal of the Royal Statistical Society 98 (1935) 39-82: given the margins, the count is hypergeometric.
    """
    right = right_then + right_now
    least = max(0, right - n_then)
    ways = sum(comb(n_now, k) * comb(n_then, right - k) for k in range(least, right_now + 1))
    return ways / comb(n_then + n_now, right)


def noninferiority(wins: int, losses: int, samples: int, margin: float) -> float:
    """P-value of the exact paired test that the challenger's share of right samples falls by less than `margin`.

    `wins` samples only the challenger gets right, `losses` only the champion. The test is unconditional: outcomes of
    the trinomial are ordered by the score statistic, and the p-value is maximised over the probability of a win, the
    nuisance parameter. Without a win or a loss the p-value is (1 - margin) ** samples.

    Nam, Biometrics 53 (1997) 1422-1430, for the statistic; Hsueh, Liu and Chen, Biometrics 57 (2001) 478-483, for the
    exact test. ValueError for impossible counts, or a margin outside of 0 to 1.
    """
    _check(wins + losses, samples)
    _check_share(margin)
    if not samples:
        return 1.0
    seen = noninferiority_score(wins, losses, samples, margin)
    least = _least_wins(np.arange(samples + 1), samples, margin, seen - 1e-9)
    nuisance = np.linspace(0, (1 - margin) / 2, _NUISANCE_STEPS + 1)
    return min(1.0, max(_reached(least, samples, float(win), float(win) + margin) for win in nuisance))


def _reached(least: NDArray[np.int64], samples: int, win: float, loss: float) -> float:
    """The probability of at least `least[k]` wins beside k losses, where a sample is won and lost with these odds."""
    reach = _DEVIATIONS * sqrt(samples * loss * (1 - loss)) + _DEVIATIONS
    first, last = max(0, int(samples * loss - reach)), min(samples, ceil(samples * loss + reach))
    lost = np.arange(first, last + 1)
    least, rest = least[first : last + 1], samples - lost
    ways = gammaln(samples + 1) - gammaln(lost + 1) - gammaln(rest + 1)
    of_losses = np.exp(ways + lost * log(loss) + rest * log1p(-loss))
    of_wins = bdtrc(np.maximum(least - 1.0, 0), rest, min(win / (1 - loss), 1.0))
    return float(of_losses @ np.where(least == 0, 1.0, np.where(least > rest, 0.0, of_wins)))


def noninferiority_score(wins: int, losses: int, samples: int, margin: float) -> float:
    """The score statistic of `noninferiority`: about normal at the margin, and the larger the better."""
    return float(_score(np.asarray(wins), np.asarray(losses), samples, margin)) if samples else 0.0


def _score(wins: NDArray[np.int64], losses: NDArray[np.int64], samples: int, margin: float) -> Floats:
    linear = (2 * samples + wins - losses) * margin - wins - losses
    root = np.sqrt(linear**2 + 8 * samples * wins * margin * (1 - margin))
    win = (root - linear) / (4 * samples)  # the likeliest probability of a win, where the fall is the margin
    variance = samples * (2 * win + margin * (1 - margin))
    score: Floats = (samples * margin - losses + wins) / np.sqrt(variance)
    return score


def _least_wins(losses: NDArray[np.int64], samples: int, margin: float, score: float) -> NDArray[np.int64]:
    """For each number of losses the fewest wins that reach the score, by bisection; one too many where none does."""
    low, high = np.zeros_like(losses), samples - losses + 1
    while (low < high).any():
        middle = (low + high) // 2
        reached = (_score(middle, losses, samples, margin) >= score) & (low < high)
        low = np.where(reached | (low == high), low, middle + 1)
        high = np.where(reached, middle, high)
    return high


def samples_needed(margin: float) -> int:
    """The fewest samples that can show that a share falls by less than `margin`: without a loss among them.

    Likewise the fewest that can show that a share is above `1 - margin`.
    """
    _check_share(margin)
    return ceil(log(ALPHA) / log(1 - margin) - 1e-9)


def margin_shown(samples: int) -> float:
    """The smallest margin that so many samples can show, without a loss among them: inverse of `samples_needed`."""
    return float(1 - ALPHA ** (1 / samples)) if samples > 0 else 1.0


def samples_for_margin(wins: int, losses: int, samples: int, margin: float) -> int | None:
    """About how many samples show the margin, if wins and losses go on at this rate; None if none do."""
    score = noninferiority_score(wins, losses, samples, margin)
    if score <= 0:
        return None
    return max(samples_needed(margin), samples + 1, ceil(samples * (Z_ALPHA / score) ** 2))


def samples_for_share(right: int, samples: int, floor: float) -> int | None:
    """About how many samples show a share above `floor`, if right ones go on at this rate; None if none do."""
    if right <= floor * samples:
        return None
    share = right / samples
    about = Z_ALPHA**2 * share * (1 - share) / (share - floor) ** 2
    return max(samples_needed(1 - floor), samples + 1, ceil(about))


def lower_bound(right: int, samples: int) -> float:
    """Lower end of the exact one-sided 95% interval of a share: Clopper and Pearson, Biometrika 26 (1934) 404-413."""
    _check(right, samples)
    return float(betaincinv(right, samples - right + 1, ALPHA)) if right else 0.0


def upper_bound(right: int, samples: int) -> float:
    """Upper end of the exact one-sided 95% interval of a share."""
    return 1 - lower_bound(samples - right, samples)


def _check(part: int, samples: int) -> None:
    if not 0 <= part <= samples:
        raise ValueError(f"{part} of {samples} samples is no count")


def _check_share(value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"the margin must lie between 0 and 1, not be {value}")
