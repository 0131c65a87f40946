"""The stacks that are deployed."""

from __future__ import annotations

import threading

from inference.engines.base import StackNotDeployed
from inference.engines.in_process.jobs import Deployment
from inference.engines.in_process.pool import AdapterPool


class Stacks:
    """Deployed stacks by content hash, at most `capacity`. Any thread may call.

    A stack that makes room for another keeps its adapters until its last request has ended: each request has
    pinned them itself.
    """

    def __init__(self, pool: AdapterPool, capacity: int) -> None:
        self._pool = pool
        self._capacity = capacity
        self._lock = threading.Lock()
        self._deployed: dict[str, Deployment] = {}  # the one used longest ago first

    @property
    def digests(self) -> list[str]:
        """The deployed stacks, the one used longest ago first."""
        with self._lock:
            return list(self._deployed)

    def publish(self, stack: Deployment) -> None:
        """Let requests name the stack, whose adapters are pinned and from now on held by it."""
        with self._lock:
            retired = [self._deployed.pop(stack.digest, None)]
            self._deployed[stack.digest] = stack
            while len(self._deployed) > self._capacity:
                retired.append(self._deployed.pop(next(iter(self._deployed))))
        for old in retired:
            if old:
                self._pool.unpin(old.digests)

    def retire(self, digest: str) -> bool:
        """Let no request name the stack any more; False if none could."""
        with self._lock:
            stack = self._deployed.pop(digest, None)
        if stack:
            self._pool.unpin(stack.digests)
        return stack is not None

    def acquire(self, digest: str) -> Deployment:
        """The stack, its adapters pinned for one request; StackNotDeployed if it isn't there."""
        with self._lock:
            stack = self._deployed.pop(digest, None)
            if stack is None:
                raise StackNotDeployed(f"The engine does not hold the stack {digest[:80]}: deploy it first.")
            self._deployed[digest] = stack
            self._pool.repin(stack.digests)
        return stack
