"""The API, asked as a client asks it."""

from __future__ import annotations

import os
import time
from typing import Any

import httpx


class Web:
    """A client of the web process; `slowest` is the longest that a launch waited for its answer, in seconds."""

    def __init__(self, token: str) -> None:
        url = f"http://127.0.0.1:{os.environ['SWITCHYARD_PORT']}"
        headers = {"Authorization": f"Token {token}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)
        self.slowest = 0.0
        self.refused: list[str] = []

    def launch(self, name: str, params: dict[str, Any], *, reuse: bool = False) -> int | None:
        """The id of the run that the platform acknowledged; None if it did not answer, or refused."""
        started = time.monotonic()
        body = {"kind": "generate_dataset", "name": name, "params": params, "reuse": reuse}
        try:
            answer = self._client.post("/api/v1/runs/", json=body)
        except httpx.HTTPError:
            return None  # it was killed
        self.slowest = max(self.slowest, time.monotonic() - started)
        if answer.status_code == httpx.codes.CREATED:
            return int(answer.json()["id"])
        self.refused.append(f"{answer.status_code} {answer.json()['error']['message']}")
        return None

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            return self._client.get("/health", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False
