"""Hints to the workers that there is something to do. The row is the record: a lost hint costs one round."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)

PATIENCE = 1.0  # seconds that a caller may be held up by a broker that does not answer

_under_way = threading.Lock()


def hint() -> None:
    """Tell the workers; a broker that is dead or silent holds nobody up for longer than `PATIENCE`."""
    if not _under_way.acquire(blocking=False):
        return  # an earlier hint still waits for the broker, and says the same
    sender = threading.Thread(target=_send, name="hint", daemon=True)
    sender.start()
    sender.join(PATIENCE)


def _send() -> None:
    from workers.tasks import reconcile

    try:
        reconcile.apply_async(expires=10)
    except Exception as error:
        log.warning("The broker took no message (%s); the run starts when it is back.", type(error).__name__)
    finally:
        _under_way.release()
