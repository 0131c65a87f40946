"""Routing, and stacked inference."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView

from inference import services
from inference.admission import get_admission
from inference.api.event_stream import EVENT, MEDIA_TYPE, answer_body, decision_body, event_stream
from inference.api.parsers import StrictFormParser, StrictJSONParser
from inference.api.serializers import (
    AnswerSerializer,
    DecisionSerializer,
    InferFormSerializer,
    InferRequestSerializer,
    RouteFormSerializer,
    RouteRequestSerializer,
)

ROUTE_BODY = {"application/json": RouteRequestSerializer, "multipart/form-data": RouteFormSerializer}
INFER_BODY = {"application/json": InferRequestSerializer, "multipart/form-data": InferFormSerializer}


class RouteView(APIView):
    """Which expert should answer."""

    permission_classes = [IsAuthenticated]
    parser_classes = [StrictJSONParser, StrictFormParser]
    throttle_classes = [ScopedRateThrottle]  # SWITCHYARD_INFER_RATE alone
    throttle_scope = "infer"
    asks_engine = True

    @extend_schema(summary="Route a screenshot", request=ROUTE_BODY, responses=DecisionSerializer, tags=["inference"])
    def post(self, request: Request) -> Response:
        """Route a screenshot and a prompt, without answering."""
        with get_admission().enter(_client(request)) as place:
            body = RouteRequestSerializer(data=request.data)
            body.is_valid(raise_exception=True)
            return Response(decision_body(services.route(place, **body.validated_data)))


class InferView(APIView):
    """Stacked inference."""

    permission_classes = [IsAuthenticated]
    parser_classes = [StrictJSONParser, StrictFormParser]
    throttle_classes = [ScopedRateThrottle]  # SWITCHYARD_INFER_RATE alone
    throttle_scope = "infer"
    asks_engine = True

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """An event stream is no rendering of a response: what is refused before one begins is JSON."""
        return super().perform_content_negotiation(request, force or _wants_stream(request))

    @extend_schema(
        summary="Route and answer",
        request=INFER_BODY,
        responses={(200, "application/json"): AnswerSerializer, (200, MEDIA_TYPE): EVENT},
        tags=["inference"],
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Route a screenshot and a prompt, and let the chosen expert answer.

        With `stream` true, or `Accept: text/event-stream`, the answer comes as server-sent events: `decision`, any
        number of `token` (`{"text": …}`), then `result`, or `error` if it fails on the way.
        """
        with ExitStack() as until:
            place = until.enter_context(get_admission().enter(_client(request)))
            body = InferRequestSerializer(data=request.data)
            body.is_valid(raise_exception=True)
            asked = dict(body.validated_data)
            if asked.pop("stream") or _wants_stream(request):
                return event_stream(services.stream(place, **asked), until.pop_all().close)
            return Response(answer_body(services.infer(place, **asked)))


def _client(request: Request) -> str:
    return str(request.user.pk)


def _wants_stream(request: Request) -> bool:
    return MEDIA_TYPE in request.headers.get("Accept", "")
