"""Text that may be shown."""

from __future__ import annotations

import pytest

from datasets_app.room import explain
from datasets_app.text import cut_urls

CUT = {
    "for url 'https://hooks.example.com/services/T0/KEY?sig=KEY' see": "for url 'https://hooks.example.com/\u2026' see",
    "No answer from https://bucket.example.com?X-Signature=KEY": "No answer from https://bucket.example.com/\u2026",
    "postgres://user:KEY@host:5432/db and redis://:KEY@other:6379": "postgres://host:5432/\u2026 and redis://other:6379",
    "url=URL('https://s3.example.com/a b')": "url=URL('https://s3.example.com/\u2026 b')",
    "The engine at http://127.0.0.1:8901 is busy.": "The engine at http://127.0.0.1:8901 is busy.",
    "No URL: a/b, c:d, ://": "No URL: a/b, c:d, ://",
}


@pytest.mark.parametrize(("text", "cut"), CUT.items())
def test_of_a_url_the_host_alone_is_shown(text: str, cut: str) -> None:
    assert cut_urls(text) == cut


def test_an_error_is_explained_without_the_signature_of_an_address() -> None:
    assert explain(OSError("Timeout at https://bucket.example.com/a?Signature=KEY")) == (
        "OSError: Timeout at https://bucket.example.com/\u2026"
    )
