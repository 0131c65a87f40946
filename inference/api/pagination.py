"""Pages of lists."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.request import Request
from rest_framework.views import APIView

MOST = 2**31 - 1


class Pages(LimitOffsetPagination):
    """`?limit=` (50 unless told, a page has 200 rows at most) and `?offset=`; 400 for what is no such number."""

    default_limit = 50
    max_limit = 200

    def get_limit(self, request: Request) -> int:
        """Rows of the page."""
        return min(_number(request, self.limit_query_param, least=1, default=self.default_limit), self.max_limit)

    def get_offset(self, request: Request) -> int:
        """Rows before the page."""
        return _number(request, self.offset_query_param, least=0, default=0)

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """With the bounds."""
        limit, offset = super().get_schema_operation_parameters(view)
        limit["schema"] |= {"minimum": 1, "maximum": MOST, "default": self.default_limit}
        offset["schema"] |= {"minimum": 0, "maximum": MOST, "default": 0}
        return [limit, offset]


def _number(request: Request, name: str, *, least: int, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MOST)) and least <= int(text) <= MOST):
        raise ValidationError({name: f"Give a whole number from {least} to {MOST}."})
    return int(text)
