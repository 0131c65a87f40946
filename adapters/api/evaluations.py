"""Evaluations."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from adapters.api.stacks import MemberSerializer
from adapters.models import Evaluation
from datasets_app.selectors import without_json


class EvaluationSerializer(serializers.ModelSerializer[Evaluation]):
    """Headline figures with their 95% interval."""

    version = MemberSerializer(read_only=True)
    stack = serializers.SlugRelatedField[Any]("digest", read_only=True, allow_null=True)

    class Meta:
        model = Evaluation
        fields = [
            "id",
            "version",
            "stack",
            "dataset_name",
            "dataset_digest",
            "samples",
            "accuracy",
            "ci_low",
            "ci_high",
            "created_at",
        ]
        read_only_fields = fields


class EvaluationDetailSerializer(EvaluationSerializer):
    """The same, and everything measured."""

    report = serializers.DictField(read_only=True)

    class Meta(EvaluationSerializer.Meta):
        fields = [*EvaluationSerializer.Meta.fields, "report"]
        read_only_fields = fields


@extend_schema(tags=["evaluations"], summary="List evaluations")
class EvaluationList(generics.ListAPIView[Evaluation]):
    """Evaluations, newest first."""

    queryset = without_json(Evaluation.objects.select_related("version__adapter", "stack"))
    serializer_class = EvaluationSerializer


@extend_schema(tags=["evaluations"], summary="Show an evaluation")
class EvaluationDetail(generics.RetrieveAPIView[Evaluation]):
    """One evaluation."""

    queryset = EvaluationList.queryset
    serializer_class = EvaluationDetailSerializer
