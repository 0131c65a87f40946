"""What happens to a request before a view sees it, and to the answer that there is no view."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import unquote

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.middleware.common import CommonMiddleware

from inference.admission import get_admission
from inference.api.errors import API_PREFIX, TOO_LARGE, Refusal, refusal_of
from inference.engines.base import EngineBusy

ASKING = ("/api/v1/infer/", "/api/v1/route/")


class SlashRedirect(HttpResponsePermanentRedirect):
    """To the same path with a slash; in the API by a 308, after which a client sends the same method and body again."""

    def __init__(self, to: str) -> None:
        super().__init__(to)
        if to.startswith(API_PREFIX):
            path = to.partition("?")[0]
            self.status_code = 308
            self.headers["Content-Type"] = "application/json"
            self.content = json.dumps(Refusal(308, "slash_missing", f"The path ends in a slash: {path}").body())


class SlashMiddleware(CommonMiddleware):
    """Django's, which loses method and body on the way."""

    response_redirect_class = SlashRedirect


def refuse_when_full(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Refuse what the engine has no place for before anything of it is read, be it the token."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path in ASKING:
            try:
                get_admission().check()
            except EngineBusy as error:
                refusal = refusal_of(error)
                assert refusal is not None  # noqa: S101 - it is for this error
                return refusal.response()
        return get_response(request)

    return middleware


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


def without_ports(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Make each client in `X-Forwarded-For` an address: some proxies append its port, which is another each time."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if forwarded := request.META.get("HTTP_X_FORWARDED_FOR"):
            request.META["HTTP_X_FORWARDED_FOR"] = ", ".join(map(_address, forwarded.split(",")))
        return get_response(request)

    return middleware


def _address(text: str) -> str:
    """The address in `1.2.3.4:50001`, `[2001:db8::7]:50001` or `2001:db8::7`; what is none stays as it is."""
    text = text.strip().strip('"')
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    host = host.partition(":")[0] if host.count(":") == 1 else host
    try:
        address = ip_address(host)
    except ValueError:
        return text
    return str(getattr(address, "ipv4_mapped", None) or address)


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
