"""Switches by which a test makes the plane misbehave."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from grpclib import GRPCError, Status

Where = tuple[str, bool]
"""A call's name, and whether a container makes it."""


class Faults:
    """Off at first. Those of calls hit the clients outside, or with `inside` the containers."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Everything works again."""
        self.bad_token = False
        self.unpipelined = False  # a call takes no input with it: that has to be put
        self.hold = False  # no machine is free: containers wait to start
        self.calls: defaultdict[str, int] = defaultdict(int)
        """How often each call came from outside."""
        self._slow: dict[Where, float] = {}
        self._fail: dict[Where, int] = {}
        self._lose: dict[Where, int] = {}
        self._refuse: set[Where] = set()

    def slow(self, call: str, seconds: float, *, inside: bool = False) -> None:
        """Each answer takes that long."""
        self._slow[call, inside] = seconds

    def fail(self, call: str, times: int = 10**6, *, inside: bool = False) -> None:
        """The next answers are errors of the kind that a load balancer gives; nothing was done."""
        self._fail[call, inside] = times

    def lose(self, call: str, times: int = 1, *, inside: bool = False) -> None:
        """The next calls are carried out, and their answers lost."""
        self._lose[call, inside] = times

    def refuse(self, call: str, *, inside: bool = False) -> None:
        """Each answer is a no, which to ask again does not change."""
        self._refuse.add((call, inside))

    async def before(self, call: str, container: Any) -> None:
        """Before a call is carried out."""
        where = (call, container is not None)
        if container is None:
            self.calls[call] += 1
        await asyncio.sleep(self._slow.get(where, 0))
        self._spend(self._fail, where)
        if where in self._refuse:
            raise GRPCError(Status.PERMISSION_DENIED, f"{call}: not allowed")

    def after(self, call: str, container: Any) -> None:
        """After it."""
        self._spend(self._lose, (call, container is not None))

    @staticmethod
    def _spend(switch: dict[Where, int], where: Where) -> None:
        if switch.get(where, 0) > 0:
            switch[where] -= 1
            raise GRPCError(Status.UNAVAILABLE, f"{where[0]}: 503 upstream connect error")
