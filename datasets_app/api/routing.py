"""Routing datasets."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from datasets_app.models import RoutingDataset


class RoutingDatasetSerializer(serializers.ModelSerializer[RoutingDataset]):
    """A routing dataset and its metadata.json."""

    sources = serializers.SlugRelatedField[Any]("name", many=True, read_only=True)
    metadata = serializers.DictField(read_only=True)

    class Meta:
        model = RoutingDataset
        fields = ["name", "digest", "sources", "metadata", "created_at"]
        read_only_fields = fields


@extend_schema(tags=["datasets"], summary="List routing datasets")
class RoutingDatasetList(generics.ListAPIView[RoutingDataset]):
    """Routing datasets, newest first."""

    queryset = RoutingDataset.objects.prefetch_related("sources")
    serializer_class = RoutingDatasetSerializer


@extend_schema(tags=["datasets"], summary="Show a routing dataset")
class RoutingDatasetDetail(generics.RetrieveAPIView[RoutingDataset]):
    """One routing dataset."""

    queryset = RoutingDataset.objects.prefetch_related("sources")
    serializer_class = RoutingDatasetSerializer
    lookup_field = "name"
