"""Which router serves."""

from __future__ import annotations

from typing import Any, cast

from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from adapters.api.stacks import StackSerializer
from adapters.models import Adapter, AdapterVersion, Stack
from adapters.selectors import get_stack, with_members
from datasets_app.api.strict import NameField, StrictCharField, StrictIntegerField, StrictSerializer
from datasets_app.errors import InputError
from inference import services


class PromotionSerializer(StrictSerializer):
    """Which version of the router; the current one unless said."""

    version = StrictIntegerField(min_value=1, max_value=2**31, required=False, help_text="The version's number.")
    drop = serializers.ListField(
        child=NameField(), max_length=256, default=list, help_text="Classes that serve and may be lost."
    )
    force_reason = StrictCharField(
        max_length=500, required=False, help_text="Promote without the comparison of evaluations, and why; is recorded."
    )


class PromoteView(APIView):
    """Make a router serve."""

    needs = "adapters.change_alias"
    asks_engine = True

    @extend_schema(
        summary="Put a router live", request=PromotionSerializer, responses=StackSerializer, tags=["adapters"]
    )
    def post(self, request: Request, name: str) -> Response:
        """Build the router's stack, deploy it and make it the champion. Staff with `adapters.change_alias`."""
        adapter = get_object_or_404(Adapter.objects.select_related("current"), name=name)
        body = PromotionSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        version = self._version(adapter, body.validated_data)
        user = cast(User, request.user)
        wish = {name: body.validated_data.get(name) for name in ("drop", "force_reason")}
        stack = services.promote(version, **wish, user=user)
        return Response(StackSerializer(with_members(Stack.objects.all()).get(pk=stack.pk)).data)

    def _version(self, adapter: Adapter, wish: dict[str, Any]) -> AdapterVersion:
        if "version" in wish:
            return get_object_or_404(AdapterVersion, adapter=adapter, number=wish["version"])
        if adapter.current is None:
            raise InputError(f"Adapter {adapter.name!r} has no version yet.")
        return adapter.current


class RollbackSerializer(StrictSerializer):
    """What is to serve no more, and why."""

    stack = StrictCharField(
        max_length=71, required=False, help_text="The digest of the stack that serves; asked twice, it goes back once."
    )
    reason = StrictCharField(max_length=500, default="By hand.")


class RollBackView(APIView):
    """Make the stack serve that served before."""

    needs = "adapters.change_alias"
    asks_engine = True

    @extend_schema(
        summary="Go back to the stack before", request=RollbackSerializer, responses=StackSerializer, tags=["adapters"]
    )
    def post(self, request: Request) -> Response:
        """Deploy the very stack that served before the present one, and make it the champion. Without `stack`, what
        serves since a rollback is refused to be rolled back. Staff with `adapters.change_alias`."""
        body = RollbackSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wish = body.validated_data
        stack = get_stack(wish["stack"]) if "stack" in wish else None
        stack = services.roll_back(stack, reason=wish["reason"], user=cast(User, request.user))
        return Response(StackSerializer(with_members(Stack.objects.all()).get(pk=stack.pk)).data)
