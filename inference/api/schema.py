"""What the OpenAPI schema says of every operation."""

from __future__ import annotations

from typing import Any, Literal

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from rest_framework.permissions import SAFE_METHODS

REFUSALS = {
    400: "A field, a parameter or the body is wrong; the message says which.",
    401: "The token is missing or wrong.",
    403: "The user may not do this.",
    404: "There is no such thing.",
    406: "The answer is JSON, which `Accept` leaves out.",
    413: "The body is too large.",
    415: "The body, or an image in it, has a type that is not read here.",
    429: "Too many requests: try again after `Retry-After` seconds.",
    503: "The engine is full, out of reach, or holds no stack.",
    507: "The disk is full.",
}


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """`Authorization: Token …`."""

    target_class = "inference.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """A header with a prefix."""
        definition: dict[str, Any] = build_bearer_security_scheme_object("Authorization", "Token")
        return definition


class PasswordScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """`Authorization: Basic …`."""

    target_class = "inference.api.authentication.PasswordAuthentication"
    name = "password"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """HTTP basic."""
        return {"type": "http", "scheme": "basic"}


class Schema(AutoSchema):
    """Adds to every operation the refusals that it can give, all in the one error shape."""

    def get_serializer_name(self, serializer: Any, direction: Literal["request", "response"]) -> str:
        """The class's; drf-spectacular appends `Request` to what comes in."""
        name: str = super().get_serializer_name(serializer, direction)
        return name.removesuffix("Serializer").removesuffix("Request") if direction == "request" else name

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        from inference.api.serializers import ErrorSerializer

        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        if direction == "response":
            for status in sorted(self._refusals()):
                error = self._get_response_for_code(ErrorSerializer, str(status))  # type: ignore[no-untyped-call]
                bodies.setdefault(str(status), {**error, "description": REFUSALS[status]})
        return bodies

    def _refusals(self) -> set[int]:
        statuses = {400, 401, 406, 429}
        if self.method not in SAFE_METHODS:
            statuses |= {403, 413, 507}
            if self.get_request_serializer() is not None:
                statuses.add(415)
        if "{" in self.path:
            statuses.add(404)
        if getattr(self.view, "asks_engine", False):
            statuses.add(503)
        return statuses
