"""Stacks."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from adapters.models import AdapterVersion, Stack
from adapters.selectors import sharing, with_members


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
    sharing = serializers.SerializerMethodField(help_text="Experts that continue the router's prefix, by name.")
    aliases = serializers.SlugRelatedField[Any]("name", many=True, read_only=True)

    class Meta:
        model = Stack
        fields = ["digest", "router", "experts", "sharing", "aliases", "created_at"]
        read_only_fields = fields

    def get_sharing(self, stack: Stack) -> list[str]:
        """Activated ones that are shown the same words and pixels as the activated router."""
        return [expert.adapter.name for expert in sharing(stack)]


@extend_schema(tags=["adapters"], summary="List stacks")
class StackList(generics.ListAPIView[Stack]):
    """Stacks, newest first; `aliases` tells which one serves (`champion`)."""

    queryset = with_members(Stack.objects.all())
    serializer_class = StackSerializer
