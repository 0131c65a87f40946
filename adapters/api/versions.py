"""Adapter versions."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from adapters import services
from adapters.models import Adapter, AdapterVersion
from datasets_app.api.strict import StrictCharField, StrictSerializer

CARD = "Fields of the card of files that bring none; absent: it is assumed, and the version's `note` says what."


class VersionSerializer(serializers.ModelSerializer[AdapterVersion]):
    """An immutable set of adapter files, addressed by `digest`."""

    adapter = serializers.SlugRelatedField[Any]("name", read_only=True)
    card = serializers.DictField(read_only=True)
    facts = serializers.DictField(read_only=True)
    note = serializers.CharField(
        read_only=True, help_text="What it is served with, if its files brought no card that tells; else empty."
    )

    class Meta:
        model = AdapterVersion
        fields = ["adapter", "number", "digest", "size", "card", "note", "facts", "created_at"]
        read_only_fields = fields


class AddVersionSerializer(StrictSerializer):
    """Adapter files on the server."""

    path = StrictCharField(max_length=1024, help_text="Folder on the server with the adapter's files.")
    card = serializers.DictField(required=False, help_text=CARD)


@extend_schema(tags=["adapters"])
@extend_schema_view(get=extend_schema(summary="List an adapter's versions"))
class VersionList(generics.ListAPIView[AdapterVersion]):
    """Versions of one adapter, newest first."""

    queryset = AdapterVersion.objects.select_related("adapter")
    serializer_class = VersionSerializer
    needs = "adapters.change_adapter"

    def get_queryset(self) -> QuerySet[AdapterVersion]:
        """Those of the adapter in the URL; 404 if there is none."""
        return super().get_queryset().filter(adapter=get_object_or_404(Adapter, name=self.kwargs["name"]))

    @extend_schema(summary="Add a version", request=AddVersionSerializer, responses={201: VersionSerializer})
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Check the files in a folder on the server and store them as the next version. Staff with
        `adapters.change_adapter`."""
        adapter = get_object_or_404(Adapter.objects.select_related("base"), name=self.kwargs["name"])
        body = AddVersionSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wish = body.validated_data
        version = services.add_version(adapter, wish["path"], card=wish.get("card"))
        return Response(VersionSerializer(version).data, status=status.HTTP_201_CREATED)


@extend_schema(tags=["adapters"], summary="Show a version")
class VersionDetail(generics.RetrieveAPIView[AdapterVersion]):
    """One version."""

    queryset = AdapterVersion.objects.select_related("adapter")
    serializer_class = VersionSerializer

    def get_object(self) -> AdapterVersion:
        """By the adapter's name and the version's number."""
        return get_object_or_404(self.get_queryset(), adapter__name=self.kwargs["name"], number=self.kwargs["number"])
