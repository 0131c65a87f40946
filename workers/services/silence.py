"""How long a backend that does not answer is left alone."""

from __future__ import annotations

from datetime import timedelta

from workers.models import Attempt

BACKOFF = (timedelta(seconds=5), timedelta(seconds=30))  # the first wait, the longest


def patience(attempt: Attempt) -> timedelta:
    """The wait before the attempt's backend is asked again, which doubles with every silence."""
    first, longest = BACKOFF
    wait: timedelta = min(first * 2 ** min(attempt.silences, 10), longest)
    return wait
