"""Signs of life: a job says twice a minute that it has a container, and for how long containers were held for it.

They lie in the Dict of claims; where that takes none, on the volume, in the launch's folder.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import modal
from modal.exception import Error

from workers.recipes.files import write_atomically
from workers.remote.calls import text
from workers.remote.commits import commit
from workers.remote.places import SIGN

EVERY = 30.0
SILENT = 300.0  # a job without a sign for so long has no container, or none that Modal will leave it
WORDS = re.compile(r"held (\d{1,8}\.\d) s at (\d{1,12}\.\d)")


@dataclass(frozen=True)
class Sign:
    """`held`: seconds, those of earlier containers included. `at`: when it was given, in seconds since 1970."""

    held: float
    at: float

    @classmethod
    def read(cls, text: str) -> Sign | None:
        """The sign in the text, which may be that of a pickle; None if there is none."""
        found = WORDS.search(text)
        return cls(float(found[1]), float(found[2])) if found else None

    def __str__(self) -> str:
        return f"held {self.held:.1f} s at {self.at:.1f}"

    @property
    def is_late(self) -> bool:
        """Whether the next one is overdue."""
        return time.time() > self.at + 2 * EVERY

    @property
    def is_silence(self) -> bool:
        """Whether the next ones are long overdue; clocks may differ by minutes."""
        return time.time() > self.at + SILENT

    @property
    def seconds(self) -> float:
        """For how long containers have been held, as far as can be told."""
        return self.held + min(max(0.0, time.time() - self.at), EVERY)


def newest(*signs: Sign | None) -> Sign | None:
    """The last one that was given."""
    return max(filter(None, signs), key=lambda sign: sign.at, default=None)


def sign_key(launch_key: str) -> str:
    """Where in the Dict of claims the last sign of a launch lies."""
    return f"{launch_key}/sign"


def last_sign(claims: modal.Dict, launch_key: str) -> Sign | None:
    """The last sign of life of the launch's job in the Dict; None, too, while that does not answer."""
    with suppress(Error, OSError):
        return Sign.read(text(claims, sign_key(launch_key)))
    return None


class Signs:
    """Those of one container, from now on until `end`."""

    def __init__(self, claims: modal.Dict, launch_key: str, volume: modal.Volume, folder: Path) -> None:
        self._claims, self._key = claims, sign_key(launch_key)
        self._volume, self._file = volume, folder / SIGN
        last = newest(last_sign(claims, launch_key), self._on_volume())
        self._before = last.held if last else 0.0
        self._began, self._over = time.monotonic(), threading.Event()
        threading.Thread(target=self._keep, name="signs", daemon=True).start()

    def end(self) -> float:
        """For how many seconds containers were held."""
        self._over.set()
        return round(self._before + time.monotonic() - self._began, 1)

    def _keep(self) -> None:
        while True:
            sign = Sign(self._before + time.monotonic() - self._began, time.time())
            with suppress(Error, OSError, RuntimeError):  # the next one tells the same
                self._give(str(sign))
            if self._over.wait(EVERY):
                return

    def _give(self, sign: str) -> None:
        try:
            self._claims.put(self._key, sign)
        except (Error, OSError):
            write_atomically(self._file, sign)
            commit(self._volume)

    def _on_volume(self) -> Sign | None:
        with suppress(OSError):
            return Sign.read(self._file.read_text())
        return None
