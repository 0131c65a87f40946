"""Source datasets."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from datasets_app import services
from datasets_app.api.permissions import demand
from datasets_app.api.strict import NameField, StrictCharField, StrictSerializer
from datasets_app.models import SourceDataset


class SourceSerializer(serializers.ModelSerializer[SourceDataset]):
    """A source dataset; where its folder lies stays on the server."""

    class Meta:
        model = SourceDataset
        fields = ["name", "format", "origin", "digest", "rows", "screens", "created_at", "updated_at"]
        read_only_fields = fields


class RegisterSourceSerializer(StrictSerializer):
    """A folder on the server to register."""

    name = NameField()
    path = StrictCharField(max_length=1024, help_text="Folder on the server with .jsonl files and their images.")
    format = StrictCharField(max_length=32, default="llava")


@extend_schema(tags=["datasets"])
@extend_schema_view(get=extend_schema(summary="List source datasets"))
class SourceList(generics.ListAPIView[SourceDataset]):
    """Source datasets."""

    queryset = SourceDataset.objects.all()
    serializer_class = SourceSerializer
    needs = "datasets_app.add_sourcedataset"

    @extend_schema(
        summary="Register a source dataset", request=RegisterSourceSerializer, responses={201: SourceSerializer}
    )
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Register a folder on the server, or register it anew if its files have changed. Staff with
        `datasets_app.add_sourcedataset`; for one that is registered, with `datasets_app.change_sourcedataset`, too."""
        body = RegisterSourceSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        if SourceDataset.objects.filter(name=body.validated_data["name"]).exists():
            demand(request, "datasets_app.change_sourcedataset")
        source = services.register_source(**body.validated_data)
        return Response(SourceSerializer(source).data, status=status.HTTP_201_CREATED)


@extend_schema(tags=["datasets"], summary="Show a source dataset")
class SourceDetail(generics.RetrieveAPIView[SourceDataset]):
    """One source dataset."""

    queryset = SourceDataset.objects.all()
    serializer_class = SourceSerializer
    lookup_field = "name"
