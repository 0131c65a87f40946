"""Text that every database, tokenizer and reader takes: without NUL, half a surrogate pair, or what is a secret."""

from __future__ import annotations

import re

_UNFIT = re.compile("[\0\ud800-\udfff]")
_URL = re.compile(r"""\b([a-z][a-z0-9+]{0,30}://)(?:[^\s/?#'"<>]*@)?([^\s/?#'"<>@]*)([^\s'"<>]*)""", re.IGNORECASE)
_PLACE = re.compile(
    r"""(?P<at>\ at\ )?(?:
        [a-z][a-z0-9+.-]*://[^\s'"<>]*[^\s'"<>.,;:)]   # a URL
        |(?<![\w/.<%)])(?:~|\.{1,2})?/[\w.@+~-]+(?:/[\w.@+~-]*)*  # a path from the root, the home or here
        |(?<![\w/.-])[\w.@+-]+(?:/[\w.@+-]+){2,}  # one of several folders
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_CUT = "/\N{HORIZONTAL ELLIPSIS}"


def is_plain(text: str) -> bool:
    """Whether the text holds neither."""
    return "\0" not in text and (text.isascii() or _UNFIT.search(text) is None)


def plain(text: str) -> str:
    """The text with a replacement character for each of them; a file name that is not UTF-8 brings some along."""
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)


def cut_urls(text: str) -> str:
    """The text with each URL in it cut down to its host: the rest may be a password, a token or a signature."""
    return _URL.sub(lambda url: url[1] + url[2] + (_CUT if url[3] else ""), text)


def without_places(text: str) -> str:
    """The text without the server's own: URLs of its parts, and paths."""
    return _PLACE.sub(lambda place: "" if place["at"] else "\N{HORIZONTAL ELLIPSIS}", text)


def without_user(url: str) -> str:
    """The URL without user and password before its host."""
    return re.sub("//[^/]*@", "//", url, count=1)
