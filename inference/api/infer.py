"""Routing, and stacked inference."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import services
from inference.api.parsers import StrictJSONParser
from inference.api.serializers import (
    AnswerSerializer,
    DecisionSerializer,
    InferFormSerializer,
    InferRequestSerializer,
    RouteFormSerializer,
    RouteRequestSerializer,
)
from inference.engines.types import Decision

ROUTE_BODY = {"application/json": RouteRequestSerializer, "multipart/form-data": RouteFormSerializer}
INFER_BODY = {"application/json": InferRequestSerializer, "multipart/form-data": InferFormSerializer}


class RouteView(APIView):
    """Which expert should answer."""

    permission_classes = [IsAuthenticated]
    parser_classes = [StrictJSONParser, MultiPartParser]
    throttle_scope = "infer"

    @extend_schema(summary="Route a screenshot", request=ROUTE_BODY, responses=DecisionSerializer, tags=["inference"])
    def post(self, request: Request) -> Response:
        """Route a screenshot and a prompt, without answering."""
        body = RouteRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(decision_body(services.route(**body.validated_data)))


class InferView(APIView):
    """Stacked inference."""

    permission_classes = [IsAuthenticated]
    parser_classes = [StrictJSONParser, MultiPartParser]
    throttle_scope = "infer"

    @extend_schema(summary="Route and answer", request=INFER_BODY, responses=AnswerSerializer, tags=["inference"])
    def post(self, request: Request) -> Response:
        """Route a screenshot and a prompt, and let the chosen expert answer."""
        body = InferRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        result = services.infer(**body.validated_data)
        return Response(
            {
                **decision_body(result.decision),
                "text": result.text,
                "tool_call": result.tool_call,
                "tokens": result.tokens,
                "finish_reason": result.finish_reason,
                "timings": result.timings,
            }
        )


def decision_body(decision: Decision) -> dict[str, Any]:
    """A decision as the API shows it."""
    expert = decision.adapter
    return {
        "label": decision.label,
        "adapter": expert.name if expert else None,
        "version": expert.digest if expert else None,
        "probabilities": decision.probabilities,
        "router": decision.router.digest,
        "stack": decision.stack,
        "timings": decision.timings,
    }
