"""Prepared datasets."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from datasets_app.models import PreparedDataset


class PreparedDatasetSerializer(serializers.ModelSerializer[PreparedDataset]):
    """What training reads, and of which dataset it was made."""

    dataset = serializers.CharField(source="dataset.name", read_only=True)
    stats = serializers.DictField(read_only=True)

    class Meta:
        model = PreparedDataset
        fields = ["id", "dataset", "base", "digest", "stats", "created_at"]
        read_only_fields = fields


@extend_schema(tags=["datasets"], summary="List prepared datasets")
class PreparedDatasetList(generics.ListAPIView[PreparedDataset]):
    """Prepared datasets, newest first."""

    queryset = PreparedDataset.objects.select_related("routing_dataset", "source_dataset")
    serializer_class = PreparedDatasetSerializer
