"""Text that every database, tokenizer and reader takes: without NUL and without half a surrogate pair."""

from __future__ import annotations

import re

_UNFIT = re.compile("[\0\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """Whether the text holds neither."""
    return "\0" not in text and (text.isascii() or _UNFIT.search(text) is None)


def plain(text: str) -> str:
    """The text with a replacement character for each of them; a file name that is not UTF-8 brings some along."""
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)
