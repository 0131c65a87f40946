"""What is refused before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse

from inference.api.errors import TOO_LARGE


def limit_body(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Refuse a body above `DATA_UPLOAD_MAX_MEMORY_SIZE`, whatever its type, by its Content-Length.

    Django's own check covers neither multipart files nor the streams that REST framework reads. A body
    without the header is read as empty, one longer than its header is cut there.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        length = request.headers.get("Content-Length") or "0"
        if length.isdecimal() and int(length[:20]) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return TOO_LARGE.response()
        return get_response(request)

    return middleware


def refuse_nul(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Refuse a NUL in the path, the query, a token or a cookie: they end in queries, and PostgreSQL takes none.

    Forms and REST framework's fields refuse it in a body by themselves.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        query, token = unquote(request.META.get("QUERY_STRING", "")), request.headers.get("Authorization", "")
        texts = (request.path, query, token, *request.COOKIES.values())
        if any("\0" in text for text in texts):
            raise SuspiciousOperation("A NUL in the request.")
        return get_response(request)

    return middleware
