"""Who is asking."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from django.http import HttpRequest
from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle

from datasets_app.text import is_plain


def client_address(request: HttpRequest) -> str | None:
    """`AXES_CLIENT_IP_CALLABLE`: failed log-ins are counted by the same address as requests are.

    What a proxy that does not belong there has written may be no address, and the database takes no other.
    """
    try:
        return str(ip_address(BaseThrottle().get_ident(request)))  # type: ignore[arg-type]
    except ValueError:
        return request.META.get("REMOTE_ADDR")


class PasswordAuthentication(BasicAuthentication):
    """HTTP basic credentials, with failures counted by axes."""

    def authenticate_credentials(self, userid: str, password: str, request: Request | None = None) -> tuple[Any, None]:
        """Hand axes Django's own request, on which its middleware looks for the lockout."""
        if not is_plain(userid):
            raise AuthenticationFailed("Invalid username/password.")
        own = request._request if request is not None else None
        return super().authenticate_credentials(userid, password, request=own)  # type: ignore[arg-type]


class BadTokenThrottle(SimpleRateThrottle):
    """How many wrong tokens one address may send."""

    scope = "bad_token"

    def get_cache_key(self, request: Request, view: object) -> str:
        """By address; asking for `request.user` would authenticate again."""
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class TokenAuthentication(KnoxAuthentication):  # type: ignore[misc]
    """`Authorization: Token …` or `Bearer …`; an address that keeps sending wrong tokens gets 429 for them."""

    def authenticate_header(self, request: Request) -> str:
        """The scheme in use, which is `Token` where the request names neither."""
        scheme = request.headers.get("Authorization", "").partition(" ")[0]
        return "Bearer" if scheme.lower() == "bearer" else str(super().authenticate_header(request))

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """The token's user, or None where another scheme was used."""
        try:
            result: tuple[Any, Any] | None = super().authenticate(request)
        except UnicodeDecodeError as error:
            self._count(request)
            raise AuthenticationFailed("Invalid token.") from error
        except AuthenticationFailed:
            self._count(request)
            raise
        return result

    def _count(self, request: Request) -> None:
        throttle = BadTokenThrottle()
        if not throttle.allow_request(request, None):  # type: ignore[arg-type]
            raise Throttled(throttle.wait())
