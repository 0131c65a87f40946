"""Alerts: what people are told."""

from __future__ import annotations

from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from datasets_app.api.server_text import ServerTextField
from workers import services
from workers.models import Alert


class AlertSerializer(serializers.ModelSerializer[Alert]):
    """An alert, or the end of a pipeline."""

    text = ServerTextField()
    details = serializers.DictField(read_only=True)

    class Meta:
        model = Alert
        fields = ["id", "level", "text", "details", "created_at", "read_at"]
        read_only_fields = fields


class AlertFilter(django_filters.FilterSet):  # type: ignore[misc]
    """`level`, and whether somebody has read it."""

    read = django_filters.TypedChoiceFilter(
        field_name="read_at",
        lookup_expr="isnull",
        exclude=True,
        choices=[("true", "true"), ("false", "false")],
        coerce=lambda value: value == "true",
        empty_value=None,
    )

    class Meta:
        model = Alert
        fields = ["level"]


@extend_schema(tags=["alerts"])
@extend_schema_view(get=extend_schema(summary="List alerts"))
class AlertList(generics.ListAPIView[Alert]):
    """Alerts and ends of pipelines, newest first; `read=false` gives the unread ones."""

    queryset = Alert.objects.all()
    serializer_class = AlertSerializer
    filterset_class = AlertFilter


class AlertRead(APIView):
    """The end of an alert's being unread."""

    needs = "workers.change_alert"

    @extend_schema(summary="Mark an alert as read", request=None, responses=AlertSerializer, tags=["alerts"])
    def post(self, request: Request, pk: int, **_: Any) -> Response:
        """One that is read stays as it is. Staff with `workers.change_alert`."""
        alert = get_object_or_404(Alert, pk=pk)
        services.mark_read(Alert.objects.filter(pk=alert.pk))
        alert.refresh_from_db()
        return Response(AlertSerializer(alert).data)
