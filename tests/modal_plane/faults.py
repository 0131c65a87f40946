"""Switches by which a test makes the plane misbehave."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from grpclib import GRPCError, Status


class Faults:
    """Off at first. Those of calls hit the clients outside, never a container."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Everything works again."""
        self.bad_token = False
        self.unpipelined = False  # a call takes no input with it: that has to be put
        self.hold = False  # no machine is free: containers wait to start
        self.calls: defaultdict[str, int] = defaultdict(int)
        """How often each call came from outside."""
        self._slow: dict[str, float] = {}
        self._fail: dict[str, int] = {}
        self._lose: dict[str, int] = {}

    def slow(self, call: str, seconds: float) -> None:
        """Each answer takes that long."""
        self._slow[call] = seconds

    def fail(self, call: str, times: int = 10**6) -> None:
        """The next answers are errors of the kind that a load balancer gives; nothing was done."""
        self._fail[call] = times

    def lose(self, call: str, times: int = 1) -> None:
        """The next calls are carried out, and their answers lost."""
        self._lose[call] = times

    async def before(self, call: str, container: Any) -> None:
        """Before a call is carried out."""
        if container is not None:
            return
        self.calls[call] += 1
        await asyncio.sleep(self._slow.get(call, 0))
        self._spend(self._fail, call)

    def after(self, call: str, container: Any) -> None:
        """After it."""
        if container is None:
            self._spend(self._lose, call)

    @staticmethod
    def _spend(switch: dict[str, int], call: str) -> None:
        if switch.get(call, 0) > 0:
            switch[call] -= 1
            raise GRPCError(Status.UNAVAILABLE, f"{call}: 503 upstream connect error")
