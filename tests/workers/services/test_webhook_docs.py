"""The receiver's code in `docs/settings.md`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from controlplane.env import ROOT
from workers.services.notifications import signature

SECRET, BODY = "a secret of some length", '{"text": "Ärger"}'.encode()


@pytest.fixture(scope="module")
def is_ours() -> Callable[[str, str, bytes], bool]:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "settings.md").read_text(), re.DOTALL)
    names: dict[str, Callable[[str, str, bytes], bool]] = {}
    exec(code, names)  # noqa: S102 - our own page
    return names["is_ours"]


def test_it_takes_what_we_sign(is_ours: Callable[[str, str, bytes], bool]) -> None:
    assert is_ours(SECRET, signature(SECRET, BODY, int(time.time())), BODY)


def test_it_takes_nothing_else(is_ours: Callable[[str, str, bytes], bool]) -> None:
    now = int(time.time())
    good = signature(SECRET, BODY, now)
    assert not is_ours("another secret of some length", good, BODY)
    assert not is_ours(SECRET, good, BODY + b" ")
    assert not is_ours(SECRET, good.replace(f"t={now}", f"t={now + 1}"), BODY)
    assert not is_ours(SECRET, signature(SECRET, BODY, now - 600), BODY), "an old one is sent again"
    for nonsense in ("", "t=1", "v1=ä", "t=now,v1=0", good.partition(",")[0]):
        assert not is_ours(SECRET, nonsense, BODY)
