"""Tokens."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from knox.views import LoginView as KnoxLoginView
from knox.views import LogoutView as KnoxLogoutView
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request

from inference.api.authentication import PasswordAuthentication, TokenAuthentication


class TokenSerializer(serializers.Serializer[Any]):
    """A new token; only its hash is kept, so it is shown this once."""

    token = serializers.CharField()
    expiry = serializers.DateTimeField(allow_null=True)


class LoginView(KnoxLoginView):  # type: ignore[misc]
    """Name and password in, token out."""

    authentication_classes = [PasswordAuthentication]
    permission_classes = [IsAuthenticated]
    throttle_scope = "login"

    @extend_schema(summary="Log in", request=None, responses=TokenSerializer, tags=["auth"])
    def post(self, request: Request) -> HttpResponseBase:
        """Give a token for HTTP basic credentials; send it as `Authorization: Token …`."""
        response: HttpResponseBase = super().post(request)
        return response


class LogoutView(KnoxLogoutView):  # type: ignore[misc]
    """The end of a token."""

    authentication_classes = [TokenAuthentication]
    permission_classes = [IsAuthenticated]

    @extend_schema(summary="Log out", request=None, responses={204: None}, tags=["auth"])
    def post(self, request: Request) -> HttpResponseBase:
        """Forget the token that the request came with."""
        response: HttpResponseBase = super().post(request)
        return response
