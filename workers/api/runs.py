"""Runs."""

from __future__ import annotations

from typing import Any, cast

from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from datasets_app.api.server_text import ServerTextField
from datasets_app.api.strict import NameField, StrictIntegerField, StrictSerializer
from workers import services
from workers.kinds import parameters
from workers.models import Attempt, Run
from workers.selectors import listed


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """One launch of a run."""

    error = ServerTextField()

    class Meta:
        model = Attempt
        fields = ["number", "outcome", "error", "machine", "seconds", "cost", "created_at", "ended_at"]
        read_only_fields = fields


class RunSerializer(serializers.ModelSerializer[Run]):
    """A job, from the wish to its result."""

    error = ServerTextField()
    trouble = ServerTextField()
    params = serializers.DictField(read_only=True)
    progress = serializers.DictField(read_only=True)
    pipeline = serializers.SlugRelatedField[Any]("name", read_only=True, allow_null=True)
    created_by = serializers.SlugRelatedField[Any]("username", read_only=True, allow_null=True)
    cancel_requested = serializers.BooleanField(read_only=True)
    reused_from = serializers.SlugRelatedField[Any]("name", read_only=True, allow_null=True)

    class Meta:
        model = Run
        fields = [
            "id",
            "name",
            "kind",
            "status",
            "params",
            "progress",
            "error",
            "trouble",
            "reused_from",
            "time_limit",
            "backend",
            "cancel_requested",
            "pipeline",
            "step",
            "created_by",
            "created_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields


class RunDetailSerializer(RunSerializer):
    """The same, with its attempts and what came of it."""

    attempts = AttemptSerializer(many=True, read_only=True)
    summary = serializers.DictField(read_only=True)
    routing_dataset = serializers.SlugRelatedField[Any]("name", read_only=True, allow_null=True)
    adapter_version = serializers.StringRelatedField[Any](allow_null=True)

    class Meta(RunSerializer.Meta):
        fields = [
            *RunSerializer.Meta.fields,
            "attempts",
            "summary",
            "routing_dataset",
            "prepared_dataset",
            "adapter_version",
            "evaluation",
        ]
        read_only_fields = fields


class LaunchSerializer(StrictSerializer):
    """A job to launch."""

    kind = serializers.ChoiceField(Run.Kind.choices)
    name = NameField(required=False, help_text="Made up if absent; for generate_dataset the dataset's name too.")
    params = serializers.DictField(default=dict, help_text=f"By kind: {parameters()}.")
    backend = NameField(required=False)
    reuse = serializers.BooleanField(default=False, help_text="Take the result of an equal run, where there is one.")
    time_limit = StrictIntegerField(
        min_value=1, max_value=2**31 - 1, required=False, help_text="Seconds from the first launch."
    )


class LogSerializer(serializers.Serializer[Any]):
    """The end of a run's log."""

    log = ServerTextField()


@extend_schema(tags=["runs"])
@extend_schema_view(get=extend_schema(summary="List runs"))
class RunList(generics.ListAPIView[Run]):
    """Runs, newest first."""

    queryset = listed(Run.objects.select_related("pipeline", "created_by"))
    serializer_class = RunSerializer
    filterset_fields = ["kind", "status", "name"]
    needs = "workers.add_run"

    @extend_schema(summary="Launch a run", request=LaunchSerializer, responses={201: RunDetailSerializer})
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Queue a run; a name with the same parameters returns the run that has it. Staff with `workers.add_run`."""
        body = LaunchSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        run = services.launch(**body.validated_data, user=cast(User, request.user))
        return Response(RunDetailSerializer(run).data, status=status.HTTP_201_CREATED)


@extend_schema(tags=["runs"], summary="Show a run")
class RunDetail(generics.RetrieveAPIView[Run]):
    """One run."""

    queryset = Run.objects.select_related(
        "pipeline", "created_by", "routing_dataset", "adapter_version__adapter"
    ).prefetch_related("attempts")
    serializer_class = RunDetailSerializer


class RunCancel(APIView):
    """The end of a run before its time."""

    needs = "workers.change_run"

    @extend_schema(summary="Cancel a run", request=None, responses=RunDetailSerializer, tags=["runs"])
    def post(self, request: Request, pk: int) -> Response:
        """Ask the run to end; one that is over stays as it is. Staff with `workers.change_run`."""
        run = services.cancel(get_object_or_404(Run, pk=pk))
        return Response(RunDetailSerializer(run).data)


class RunRetry(APIView):
    """Another try."""

    needs = "workers.add_run"

    @extend_schema(summary="Retry a run", request=None, responses={201: RunDetailSerializer}, tags=["runs"])
    def post(self, request: Request, pk: int) -> Response:
        """Launch a failed or cancelled run again, with its pipeline's later steps. Staff with `workers.add_run`."""
        run = services.retry(get_object_or_404(Run, pk=pk))
        return Response(RunDetailSerializer(run).data, status=status.HTTP_201_CREATED)


class RunLog(APIView):
    """What a run's newest job wrote."""

    @extend_schema(summary="Show the end of a run's log", responses=LogSerializer, tags=["runs"])
    def get(self, request: Request, pk: int) -> Response:
        """The last 200 lines."""
        log = services.log_tail(get_object_or_404(Run, pk=pk), lines=200)
        return Response(LogSerializer({"log": log}, context={"request": request}).data)
