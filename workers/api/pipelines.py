"""Pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema, extend_schema_field, extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from adapters.api.versions import CARD
from adapters.validation import MAX_PIXELS
from datasets_app.api.server_text import ServerTextField
from datasets_app.api.strict import NameField, ShareField, StrictCharField, StrictIntegerField, StrictSerializer
from workers import services
from workers.api.runs import RunSerializer
from workers.models import Pipeline
from workers.recipes.sizing import DEFAULT_WORDS, MOST_SAMPLES
from workers.selectors import with_runs
from workers.services.sizes import sizes_of
from workers.states import Status

SAMPLES_HELP = f"Absent: {DEFAULT_WORDS}."
PIXELS = "Most pixels of a screenshot that the router sees; fewer make routing cheaper."


class PipelineSerializer(serializers.ModelSerializer[Pipeline]):
    """Runs that depend on each other, and what came of them."""

    status = serializers.ChoiceField(Status.choices, read_only=True)
    verdict = ServerTextField()
    trouble = ServerTextField()
    wish = serializers.DictField(read_only=True)
    cancel_requested = serializers.BooleanField(read_only=True)
    promoted = serializers.SlugRelatedField[Any]("digest", read_only=True, allow_null=True)
    runs = RunSerializer(source="steps", many=True, read_only=True, help_text="The newest run of each step.")

    class Meta:
        model = Pipeline
        fields = [
            "id",
            "name",
            "kind",
            "live",
            "wish",
            "status",
            "verdict",
            "promoted",
            "trouble",
            "cancel_requested",
            "created_at",
            "finished_at",
            "runs",
        ]
        read_only_fields = fields


class ClassSizeSerializer(serializers.Serializer[Any]):
    """What a class of the router has to be evaluated on."""

    label = serializers.CharField()  # type: ignore[assignment]
    screens = serializers.IntegerField(allow_null=True, help_text="Different ones; null: not counted yet.")
    held_out = serializers.IntegerField(allow_null=True, help_text="Of these, to evaluate on.")
    margin = serializers.FloatField(allow_null=True, help_text="The smallest that so many samples can show.")


class PipelineDetailSerializer(PipelineSerializer):
    """The same, with what its router is evaluated on."""

    classes = serializers.SerializerMethodField()

    class Meta(PipelineSerializer.Meta):
        fields = [*PipelineSerializer.Meta.fields, "classes"]
        read_only_fields = fields

    @extend_schema_field(ClassSizeSerializer(many=True))
    def get_classes(self, pipeline: Pipeline) -> Any:
        """Those of the router that it trains."""
        return ClassSizeSerializer(sizes_of(pipeline), many=True).data


class Wish(StrictSerializer):
    """What is launched, and where."""

    backend = NameField(required=False, help_text="Compute backend of its steps; absent: the default.")


class TrainingWish(Wish):
    """What is trained, and how."""

    train = serializers.DictField(required=False, help_text="Fields of the training recipe.")
    activated = serializers.BooleanField(
        required=False, help_text="An activated LoRA, or a plain one; its place in `train` has the same meaning."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """`activated` is one of the recipe's fields."""
        if "activated" in attrs:
            attrs["train"] = {**attrs.get("train", {}), "activated": attrs.pop("activated")}
        return attrs


class RouterWish(TrainingWish):
    """A router to train, from dataset to evaluation."""

    name = NameField(required=False, help_text="Made up if absent; the routing dataset's name too.")
    adapters = serializers.ListField(child=NameField(), min_length=1, max_length=256, help_text="The experts.")
    negatives = serializers.ListField(child=NameField(), max_length=256, default=list)
    router = NameField(default="router")
    samples_per_class = StrictIntegerField(min_value=1, max_value=MOST_SAMPLES, required=False, help_text=SAMPLES_HELP)
    seed = StrictIntegerField(min_value=0, max_value=2**31 - 1, default=0)
    max_pixels = StrictIntegerField(min_value=1, max_value=MAX_PIXELS, required=False, help_text=PIXELS)


class ExpertWish(TrainingWish):
    """An expert to train on its source dataset."""

    pipeline = NameField(required=False, source="name", help_text="Made up if absent.")
    adapter = NameField()


class SuccessorWish(TrainingWish):
    """The serving router, trained anew; what is absent stays as it is."""

    pipeline = NameField(required=False, help_text="Made up if absent.")
    live = serializers.ChoiceField(Pipeline.Live.choices, default=Pipeline.Live.IF_BETTER)
    margin = ShareField(required=False, help_text="No class that serves may fall by so much; absent: the setting.")
    floor = ShareField(required=False, help_text="The recall that a new class must exceed; absent: the setting.")
    drop = serializers.ListField(
        child=NameField(), min_length=1, max_length=256, required=False, help_text="Classes that serve and are removed."
    )
    adapters = serializers.ListField(child=NameField(), min_length=1, max_length=256, required=False)
    negatives = serializers.ListField(child=NameField(), max_length=256, required=False)
    samples_per_class = StrictIntegerField(
        min_value=1, max_value=MOST_SAMPLES, required=False, help_text=f"{SAMPLES_HELP} Or as it is."
    )
    seed = StrictIntegerField(min_value=0, max_value=2**31 - 1, required=False)
    max_pixels = StrictIntegerField(min_value=1, max_value=MAX_PIXELS, required=False, help_text=PIXELS)


class NewExpertWish(SuccessorWish):
    """An expert to add to what serves."""

    name = NameField(help_text="Of the expert.")
    source = StrictCharField(  # type: ignore[assignment]
        max_length=1024, help_text="A folder on the server, `volume:path` on Modal, or a registered source dataset."
    )
    adapter = StrictCharField(
        max_length=1024,
        required=False,
        help_text="Folder on the server, or `volume:path` on Modal; absent: the expert is trained first.",
    )
    card = serializers.DictField(required=False, help_text=CARD)
    train_expert = serializers.DictField(required=False, help_text="Fields of the training recipe, for the expert.")
    adapters = None  # type: ignore[assignment]


class ReevaluationWish(Wish):
    """What serves, evaluated again."""

    pipeline = NameField(required=False, help_text="Made up if absent.")
    fresh_samples = StrictIntegerField(
        min_value=0,
        max_value=1_000_000,
        required=False,
        help_text="Of each class, newly drawn; absent: as many as were held out when the router was made.",
    )
    rollback = serializers.BooleanField(default=False)


WISHES: dict[str, tuple[type[Wish], Callable[..., Pipeline]]] = {
    Pipeline.Kind.ROUTER.value: (RouterWish, services.launch_router_pipeline),
    Pipeline.Kind.EXPERT.value: (ExpertWish, services.launch_expert_pipeline),
    Pipeline.Kind.ADD_EXPERT.value: (NewExpertWish, services.add_expert),
    Pipeline.Kind.RETRAIN_ROUTER.value: (SuccessorWish, services.retrain_router),
    Pipeline.Kind.REEVALUATE.value: (ReevaluationWish, services.reevaluate),
}


@extend_schema(tags=["pipelines"])
@extend_schema_view(get=extend_schema(summary="List pipelines"))
class PipelineList(generics.ListAPIView[Pipeline]):
    """Pipelines, newest first."""

    queryset = with_runs(Pipeline.objects.select_related("promoted"))
    serializer_class = PipelineSerializer
    needs = "workers.add_pipeline"

    @extend_schema(
        summary="Launch a pipeline",
        request=PolymorphicProxySerializer(
            component_name="PipelineWish",
            serializers={kind: wish for kind, (wish, _) in WISHES.items()},
            resource_type_field_name="kind",
        ),
        responses={201: PipelineDetailSerializer},
    )
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """`kind` says what is to be done (`router` if absent); the other fields are that kind's. Staff with
        `workers.add_pipeline`."""
        wish = dict(request.data) if isinstance(request.data, dict) else request.data
        kind = wish.pop("kind", Pipeline.Kind.ROUTER.value) if isinstance(wish, dict) else Pipeline.Kind.ROUTER.value
        if not isinstance(kind, str) or kind not in WISHES:
            raise serializers.ValidationError({"kind": f"One of {', '.join(WISHES)}."})
        serializer, service = WISHES[kind]
        body = serializer(data=wish)
        body.is_valid(raise_exception=True)
        pipeline = service(**body.validated_data, user=cast(User, request.user))
        return Response(PipelineDetailSerializer(pipeline).data, status=status.HTTP_201_CREATED)


@extend_schema(tags=["pipelines"], summary="Show a pipeline")
class PipelineDetail(generics.RetrieveAPIView[Pipeline]):
    """One pipeline."""

    queryset = PipelineList.queryset
    serializer_class = PipelineDetailSerializer


class PipelineCancel(APIView):
    """The end of a pipeline before its time."""

    needs = "workers.change_run"

    @extend_schema(summary="Cancel a pipeline", request=None, responses=PipelineSerializer, tags=["pipelines"])
    def post(self, request: Request, pk: int) -> Response:
        """Cancel every run of it that is not over, and what was to follow. Staff with `workers.change_run`."""
        pipeline = get_object_or_404(Pipeline, pk=pk)
        services.cancel_pipeline(pipeline)
        return Response(PipelineSerializer(pipeline).data)


class PipelineRetry(APIView):
    """Another try."""

    needs = "workers.add_run"

    @extend_schema(summary="Retry a pipeline", request=None, responses=PipelineSerializer, tags=["pipelines"])
    def post(self, request: Request, pk: int) -> Response:
        """Go on from the first step that failed or was cancelled. Staff with `workers.add_run`."""
        pipeline = services.retry_pipeline(get_object_or_404(Pipeline, pk=pk))
        return Response(PipelineSerializer(pipeline).data)
