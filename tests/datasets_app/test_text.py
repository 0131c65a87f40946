"""Text that may be shown."""

from __future__ import annotations

import pytest

from datasets_app.room import explain
from datasets_app.text import cut_urls, without_places

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


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("The engine is not running at http://127.0.0.1:8901.", "The engine is not running."),
        ("The engine at http://10.0.0.3:8901/x did not answer.", "The engine did not answer."),
        ("No such file or directory: '/srv/switchyard/var/jobs/ab'", "No such file or directory: '…'"),
        ("var/jobs/ab/out: gone", "…: gone"),
        ("see ../data/x.png, please", "see …, please"),
        ("postgres://u:p@h/db failed", "… failed"),
    ],
)
def test_what_is_the_server_s_own_is_left_out(text: str, rest: str) -> None:
    assert without_places(text) == rest


@pytest.mark.parametrize(
    "text", ["either/or", "image/png", "Qwen/Qwen3-VL-8B-Instruct", "(40%/50%) of 1/2", "</tool_call>", "at 12:30", ""]
)
def test_what_only_looks_like_a_place_stays(text: str) -> None:
    assert without_places(text) == text
