"""Parties that take turns, so that no one's work keeps the others waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Lines(Generic[K, T]):
    """A line for each party; the turn is the party's for which the least work was begun (start-time fair queueing).

    A party that comes back is not owed what it did not ask for meanwhile. Not safe for threads.
    """

    def __init__(self) -> None:
        self._lines: dict[K, deque[T]] = {}
        self._ends: dict[K, float] = {}  # where the work of a party ends on a clock that counts work
        self._now = 0.0

    def __iter__(self) -> Iterator[T]:
        return (item for line in self._lines.values() for item in line)

    def line(self, party: K) -> deque[T]:
        """The party's line, to be added to at once."""
        return self._lines.setdefault(party, deque())

    def take(self, work: Callable[[T], float], fits: Callable[[T], bool] = lambda _: True) -> T | None:
        """The first of the line whose turn it is; lines whose first does not fit are passed over."""
        for party in sorted(self._lines, key=self._start):
            line = self._lines[party]
            if fits(line[0]):
                return self._begin(party, line.popleft(), work)
        return None

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Leave out everything else."""
        kept = {party: deque(filter(wanted, line)) for party, line in self._lines.items()}
        self._lines = {party: line for party, line in kept.items() if line}

    def _begin(self, party: K, item: T, work: Callable[[T], float]) -> T:
        self._now = max(self._now, self._start(party))
        self._ends[party] = self._start(party) + work(item)
        self._ends = {other: end for other, end in self._ends.items() if end > self._now}
        if line := self._lines.pop(party):
            self._lines[party] = line  # behind others whose turn comes at the same time
        return item

    def _start(self, party: K) -> float:
        return max(self._now, self._ends.get(party, 0.0))


class FairThreads:
    """A few threads for the calls of many parties, which take turns."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, name)
        self._lock = Lock()
        self._calls: Lines[str, tuple[float, Callable[[], object]]] = Lines()

    def submit(self, party: str, work: float, call: Callable[[], object]) -> None:
        """Do it in a thread when it is the party's turn; RuntimeError after `shutdown`."""
        with self._lock:
            self._pool.submit(self._next)
            self._calls.line(party).append((work, call))

    def shutdown(self) -> None:
        """End the threads once all calls are done."""
        self._pool.shutdown()

    def _next(self) -> None:
        with self._lock:
            found = self._calls.take(lambda item: item[0])
        assert found is not None  # noqa: S101 - as many come here as were submitted
        found[1]()
