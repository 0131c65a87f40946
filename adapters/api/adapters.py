"""Adapters."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from adapters import services
from adapters.api.versions import CARD
from adapters.models import Adapter
from datasets_app.api.permissions import demand
from datasets_app.api.strict import NameField, StrictCharField, StrictSerializer
from datasets_app.selectors import get_source, without_json


class AdapterSerializer(serializers.ModelSerializer[Adapter]):
    """A named LoRA on a base model."""

    base = serializers.SlugRelatedField[Any]("name", read_only=True)
    source = serializers.SlugRelatedField[Any](  # type: ignore[assignment]
        "name", read_only=True, allow_null=True
    )
    current = serializers.IntegerField(
        source="current.number", read_only=True, allow_null=True, default=None, help_text="Version number."
    )

    class Meta:
        model = Adapter
        fields = ["name", "kind", "base", "source", "current", "description", "created_at"]
        read_only_fields = fields


class RegisterAdapterSerializer(StrictSerializer):
    """An adapter to register, with or without files."""

    name = NameField(help_text="The label that a router may answer.")
    kind = serializers.ChoiceField(Adapter.Kind.choices, default=Adapter.Kind.EXPERT)
    source = NameField(  # type: ignore[assignment]
        required=False, help_text="Source dataset that routing examples are drawn from."
    )
    description = StrictCharField(max_length=4096, default="", allow_blank=True)
    path = StrictCharField(max_length=1024, required=False, help_text="Folder on the server with the adapter's files.")
    card = serializers.DictField(required=False, help_text=CARD)


@extend_schema(tags=["adapters"])
@extend_schema_view(get=extend_schema(summary="List adapters"))
class AdapterList(generics.ListAPIView[Adapter]):
    """Adapters."""

    queryset = without_json(Adapter.objects.select_related("base", "source", "current"))
    serializer_class = AdapterSerializer
    filterset_fields = ["kind"]
    needs = "adapters.add_adapter"

    @extend_schema(summary="Register an adapter", request=RegisterAdapterSerializer, responses={201: AdapterSerializer})
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Register an adapter; with `path`, its files on the server become its next version. Staff with
        `adapters.add_adapter`; for one that is registered, with `adapters.change_adapter`, too."""
        body = RegisterAdapterSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wish = body.validated_data
        if Adapter.objects.filter(name=wish["name"]).exists():
            demand(request, "adapters.change_adapter")
        path, card = wish.pop("path", None), wish.pop("card", None)
        if "source" in wish:
            wish["source"] = get_source(wish["source"])
        if path is None:
            adapter = services.register_adapter(**wish)
        else:
            adapter = services.import_adapter(directory=path, card=card, **wish).adapter
        adapter.refresh_from_db()
        return Response(AdapterSerializer(adapter).data, status=status.HTTP_201_CREATED)


@extend_schema(tags=["adapters"], summary="Show an adapter")
class AdapterDetail(generics.RetrieveAPIView[Adapter]):
    """One adapter."""

    queryset = AdapterList.queryset
    serializer_class = AdapterSerializer
    lookup_field = "name"
