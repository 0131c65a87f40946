"""Having the engine load a stack, which may take it minutes, without holding up a round."""

from __future__ import annotations

import threading
import time

from inference.engines.base import Engine, EngineError
from inference.engines.types import StackSpec
from inference.services import get_engine

PATIENCE = 2.0  # seconds that a round waits
LONGEST = 3600.0  # seconds after which it has failed: no engine takes so long
FORGOTTEN_AFTER = 60.0  # seconds after which nobody has come for a result: it may not be so any more

_under_way: dict[str, Loading] = {}  # by the stack's digest


class StillLoading(EngineError):  # noqa: N818 - it says how the engine stands
    """The engine is at it: a later round asks again."""


class Loading(threading.Thread):
    """One call of `deploy`, to its end."""

    def __init__(self, engine: Engine, stack: StackSpec) -> None:
        super().__init__(name="loading", daemon=True)
        self.engine, self.stack = engine, stack
        self.error: Exception | None = None
        self.began = time.monotonic()
        self.ended = float("inf")

    def run(self) -> None:
        """Remember how it ended."""
        try:
            self.engine.deploy(self.stack)
        except Exception as error:
            self.error = error
        self.ended = time.monotonic()


def load(stack: StackSpec) -> None:
    """Return when the engine holds the stack; StillLoading if that takes longer than a round can wait.

    The call goes on in a thread. Another process, or this one after it was killed or had to give the thread up, may
    call a second time: `deploy` is idempotent. Raises what the engine raises, and EngineError after `LONGEST`.
    """
    loading = _under_way.get(stack.digest)
    if loading is None or time.monotonic() - loading.ended > FORGOTTEN_AFTER:
        loading = _under_way[stack.digest] = Loading(get_engine(), stack)
        loading.start()
    loading.join(PATIENCE)
    if loading.is_alive() and time.monotonic() - loading.began < LONGEST:
        raise StillLoading("The engine still loads the stack.")
    del _under_way[stack.digest]
    if loading.is_alive():
        raise EngineError(f"The engine has not loaded the stack within {LONGEST / 60:.0f} min.")
    if loading.error is not None:
        raise loading.error
