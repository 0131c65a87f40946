"""Who is let through to the engine, decided before a body is read."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from types import TracebackType

from django.conf import settings

from inference.engines.base import EngineBusy

HOLD_S = 0.5  # that an engine which was full is taken for full: it has other callers than this process


class TooManyPlacesError(EngineBusy):
    """One user has too many requests under way."""


class Admission:
    """Places of the requests that this process has at the engine, and how many of them one user may take.

    A single request may take more than there are, where the user has none besides.
    """

    def __init__(self, places: int, per_user: int) -> None:
        self._places, self._per_user = places, per_user
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()
        self._full_until = 0.0

    def check(self) -> None:
        """EngineBusy if no place is free."""
        if time.monotonic() < self._full_until or self._taken.total() >= self._places:
            raise EngineBusy("The engine is full: try again later.")

    def hold(self) -> None:
        """Refuse everything for a moment: the engine has just said that it is full."""
        self._full_until = time.monotonic() + HOLD_S

    def enter(self, client: str) -> Place:
        """A place for the client's request; EngineBusy, or TooManyPlacesError, if there is none."""
        with self._lock:
            self.check()
            self._take(client, 1)
        return Place(self, client)

    def widen(self, client: str, more: int, own: int) -> None:
        """More places for a request that has `own`; fails as `enter` does, and the request keeps what it has."""
        with self._lock:
            if self._taken.total() > own and self._taken.total() + more > self._places:
                raise EngineBusy("The engine has no room for a picture of this size: try again later.")
            self._take(client, more, own)

    def leave(self, client: str, places: int) -> None:
        """Free the places."""
        with self._lock:
            self._taken -= Counter({client: places})

    def _take(self, client: str, places: int, own: int = 0) -> None:
        if self._taken[client] > own and self._taken[client] + places > self._per_user:
            raise TooManyPlacesError(
                f"Your requests take {self._taken[client]} places, and may take {self._per_user}: a picture takes one "
                "for each 2 megapixels. Wait for an answer."
            )
        self._taken[client] += places


class Place:
    """What one request takes, until the block is left."""

    def __init__(self, admission: Admission, client: str) -> None:
        self.client = client
        self._admission, self._count, self._since = admission, 1, time.monotonic()

    @property
    def waited_s(self) -> float:
        """Seconds since it was taken."""
        return time.monotonic() - self._since

    def widen(self, places: int) -> None:
        """Take so many in all; EngineBusy, or TooManyPlacesError, if there are too few."""
        if places > self._count:
            self._admission.widen(self.client, places - self._count, self._count)
            self._count = places

    def __enter__(self) -> Place:
        """The place itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free it."""
        self._admission.leave(self.client, self._count)


@functools.cache
def get_admission() -> Admission:
    """That of this process."""
    return Admission(settings.INFER_PLACES, settings.USER_PLACES)
