"""Which router serves."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from adapters.api.stacks import StackSerializer
from adapters.models import Adapter, AdapterVersion
from datasets_app.api.strict import StrictIntegerField, StrictSerializer
from datasets_app.errors import InputError
from inference import services


class PromotionSerializer(StrictSerializer):
    """Which version of the router; the current one unless said."""

    version = StrictIntegerField(min_value=1, max_value=2**31, required=False, help_text="The version's number.")
    force = serializers.BooleanField(default=False, help_text="Promote in spite of a failed gate.")


class PromoteView(APIView):
    """Make a router serve."""

    @extend_schema(
        summary="Put a router live", request=PromotionSerializer, responses=StackSerializer, tags=["adapters"]
    )
    def post(self, request: Request, name: str) -> Response:
        """Build the router's stack, deploy it and make it the champion."""
        adapter = get_object_or_404(Adapter.objects.select_related("current"), name=name)
        body = PromotionSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        version = self._version(adapter, body.validated_data)
        stack = services.promote(version, force=body.validated_data["force"])
        return Response(StackSerializer(stack).data)

    def _version(self, adapter: Adapter, wish: dict[str, Any]) -> AdapterVersion:
        if "version" in wish:
            return get_object_or_404(AdapterVersion, adapter=adapter, number=wish["version"])
        if adapter.current is None:
            raise InputError(f"Adapter {adapter.name!r} has no version yet.")
        return adapter.current
