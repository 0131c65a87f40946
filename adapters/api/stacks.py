"""Stacks."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from adapters.models import AdapterVersion, Stack


class MemberSerializer(serializers.ModelSerializer[AdapterVersion]):
    """A version within a stack."""

    adapter = serializers.SlugRelatedField[Any]("name", read_only=True)

    class Meta:
        model = AdapterVersion
        fields = ["adapter", "number", "digest"]
        read_only_fields = fields


class StackSerializer(serializers.ModelSerializer[Stack]):
    """A router version and the expert versions it may name."""

    router = MemberSerializer(read_only=True)
    experts = MemberSerializer(many=True, read_only=True)
    aliases = serializers.SlugRelatedField[Any]("name", many=True, read_only=True)

    class Meta:
        model = Stack
        fields = ["digest", "router", "experts", "aliases", "created_at"]
        read_only_fields = fields


@extend_schema(tags=["adapters"], summary="List stacks")
class StackList(generics.ListAPIView[Stack]):
    """Stacks, newest first; `aliases` tells which one serves (`champion`)."""

    queryset = Stack.objects.select_related("router__adapter").prefetch_related("experts__adapter", "aliases")
    serializer_class = StackSerializer
