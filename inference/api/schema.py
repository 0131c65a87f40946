"""What the OpenAPI schema says of every operation."""

from __future__ import annotations

from typing import Any, Literal

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import build_bearer_security_scheme_object


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
    """Adds the one error shape to every operation."""

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        from inference.api.serializers import ErrorSerializer

        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        if direction == "response":
            error = self._get_response_for_code(ErrorSerializer, "default")  # type: ignore[no-untyped-call]
            bodies["default"] = {**error, "description": "Any refusal."}
        return bodies
