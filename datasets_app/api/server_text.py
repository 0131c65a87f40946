"""What the server says of itself, and to whom."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from datasets_app.text import without_places


def shown(value: Any, request: Request | None) -> Any:
    """The value, with paths and addresses of the server in its texts for staff alone."""
    if request is None or request.user.is_staff:
        return value
    match value:
        case str():
            return without_places(value)
        case dict():
            return {key: shown(item, request) for key, item in value.items()}
        case list() | tuple():
            return [shown(item, request) for item in value]
    return value


class ServerTextField(serializers.CharField):
    """A text of the server's, such as the error of a job."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"read_only": True, **kwargs})

    def to_representation(self, value: str) -> str:
        """As `shown` to who asks."""
        text: str = shown(value, self.context.get("request"))
        return text
