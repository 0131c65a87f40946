"""The engine behind the API."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from datasets_app.api.server_text import shown
from inference import services


class EngineView(APIView):
    """What the engine holds."""

    asks_engine = True

    @extend_schema(summary="Show the engine", responses=OpenApiTypes.OBJECT, tags=["inference"])
    def get(self, request: Request) -> Response:
        """The engine's own account: base, device, dtype and the stacks deployed; 503 if it does not answer."""
        return Response(shown(services.engine_status(), request))
