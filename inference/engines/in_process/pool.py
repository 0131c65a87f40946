"""Which adapter versions lie in the slots, who needs them, and who makes room."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from adapters.card import AdapterCard
from inference.engines.base import EngineError
from inference.engines.in_process.files import ReadAdapter
from inference.engines.in_process.lora import NO_ADAPTER, LoraSlots


@dataclass
class _Resident:
    slot: int
    card: AdapterCard
    proven: bool
    pins: int


class AdapterPool:
    """Adapter versions by content hash, at most `capacity` in all unless more are pinned.

    A version is pinned by every deployed stack and every unfinished request that names it, and is then never
    evicted; of the others, the one used longest ago makes room. Any thread may pin; only the thread that runs the
    model may place.
    """

    def __init__(self, slots: LoraSlots, capacity: int) -> None:
        self._slots = slots
        self._capacity = capacity
        self._lock = threading.Lock()
        self._residents: dict[str, _Resident] = {}  # the one used longest ago first
        self._withdrawn: dict[str, str] = {}

    @property
    def digests(self) -> list[str]:
        """The versions in the slots, the one used longest ago first."""
        with self._lock:
            return list(self._residents)

    @property
    def unproven(self) -> list[str]:
        """The versions in the slots that came without canaries of their own."""
        with self._lock:
            return [digest for digest, resident in self._residents.items() if not resident.proven]

    def proven(self, digest: str) -> bool:
        """Whether the pinned version answered the canaries of its training as it did then."""
        with self._lock:
            return self._residents[digest].proven

    @property
    def nbytes(self) -> int:
        """Bytes that the slots take."""
        return self._slots.nbytes

    @property
    def withdrawn(self) -> dict[str, str]:
        """The versions out of service, and why."""
        with self._lock:
            return dict(self._withdrawn)

    def pin(self, digest: str) -> AdapterCard | None:
        """The card of a version that from now on stays; None if it isn't there. EngineError if it is withdrawn."""
        self.check(digest)
        with self._lock:
            resident = self._residents.pop(digest, None)
            if resident is None:
                return None
            resident.pins += 1
            self._residents[digest] = resident
            return resident.card

    def repin(self, digests: Iterable[str]) -> None:
        """Pin versions once more that are pinned already."""
        with self._lock:
            for digest in digests:
                resident = self._residents.pop(digest)
                resident.pins += 1
                self._residents[digest] = resident

    def unpin(self, digests: Iterable[str]) -> None:
        """Take back one pin of each."""
        with self._lock:
            for digest in digests:
                self._residents[digest].pins -= 1

    def place(self, adapter: ReadAdapter, prove: Callable[[int], None]) -> AdapterCard:
        """Put the version into a slot unless it is there, let `prove` look at that slot, and pin the version.

        Whatever fails leaves the slot empty; nobody can have found the version there.
        """
        if card := self.pin(adapter.digest):
            return card
        with self._lock:
            idle = [digest for digest, resident in self._residents.items() if not resident.pins]
            for digest in idle[: max(0, len(self._residents) + 1 - self._capacity)]:
                del self._residents[digest]
            taken = {NO_ADAPTER, *(resident.slot for resident in self._residents.values())}
        slot = min(set(range(len(taken) + 1)) - taken)
        try:
            self._slots.write(slot, adapter.weights)
            prove(slot)
        except BaseException:
            self._slots.clear(slot)
            raise
        with self._lock:
            self._residents[adapter.digest] = _Resident(slot, adapter.card, adapter.canaries is not None, 1)
        return adapter.card

    def slot(self, digest: str) -> int:
        """Where the pinned version lies."""
        with self._lock:
            return self._residents[digest].slot

    def withdraw(self, digest: str, reason: str) -> None:
        """Take the version out of service until the engine starts anew."""
        with self._lock:
            self._withdrawn[digest] = reason

    def check(self, digest: str) -> None:
        """EngineError with the reason if the version is withdrawn."""
        with self._lock:
            reason = self._withdrawn.get(digest)
        if reason:
            raise EngineError(f"The adapter version {digest} is out of service: {reason}.")
