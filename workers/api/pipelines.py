"""Pipelines."""

from __future__ import annotations

from typing import Any, cast

from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from datasets_app.api.strict import NameField, StrictIntegerField, StrictSerializer
from workers import services
from workers.api.runs import RunSerializer
from workers.models import Pipeline
from workers.states import Status


class PipelineSerializer(serializers.ModelSerializer[Pipeline]):
    """Runs that depend on each other."""

    status = serializers.ChoiceField(Status.choices, read_only=True)
    runs = RunSerializer(source="steps", many=True, read_only=True, help_text="The newest run of each step.")

    class Meta:
        model = Pipeline
        fields = ["id", "name", "status", "created_at", "runs"]
        read_only_fields = fields


class LaunchPipelineSerializer(StrictSerializer):
    """A router to train, from dataset to verdict."""

    name = NameField(required=False, help_text="Made up if absent; the routing dataset's name too.")
    adapters = serializers.ListField(child=NameField(), min_length=1, max_length=256, help_text="The experts.")
    negatives = serializers.ListField(child=NameField(), max_length=256, default=list)
    router = NameField(default="router")
    samples_per_class = StrictIntegerField(min_value=1, max_value=1_000_000, default=200)
    seed = StrictIntegerField(min_value=0, max_value=2**31 - 1, default=0)
    train = serializers.DictField(default=dict, help_text="Fields of the training recipe.")


@extend_schema(tags=["pipelines"])
@extend_schema_view(get=extend_schema(summary="List pipelines"))
class PipelineList(generics.ListAPIView[Pipeline]):
    """Pipelines, newest first."""

    queryset = Pipeline.objects.all()
    serializer_class = PipelineSerializer

    @extend_schema(
        summary="Launch a router pipeline",
        request=LaunchPipelineSerializer,
        responses={201: PipelineSerializer},
    )
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Generate a routing dataset, preprocess it, train a router and evaluate it. Staff only."""
        body = LaunchPipelineSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        pipeline = services.launch_router_pipeline(**body.validated_data, user=cast(User, request.user))
        return Response(PipelineSerializer(pipeline).data, status=status.HTTP_201_CREATED)


@extend_schema(tags=["pipelines"], summary="Show a pipeline")
class PipelineDetail(generics.RetrieveAPIView[Pipeline]):
    """One pipeline."""

    queryset = PipelineList.queryset
    serializer_class = PipelineSerializer


class PipelineCancel(APIView):
    """The end of a pipeline before its time."""

    @extend_schema(summary="Cancel a pipeline", request=None, responses=PipelineSerializer, tags=["pipelines"])
    def post(self, request: Request, pk: int) -> Response:
        """Cancel every run of it that is not over. Staff only."""
        pipeline = get_object_or_404(Pipeline, pk=pk)
        services.cancel_pipeline(pipeline)
        return Response(PipelineSerializer(pipeline).data)
