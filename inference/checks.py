"""What `manage.py check` says of the engine's settings."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def engine_has_an_address(**_: Any) -> list[CheckMessage]:
    """An engine that is reached by a URL needs one."""
    if _is_address(settings.ENGINE["OPTIONS"].get("url", "http://none-needed")):
        return []
    hint = "Set SWITCHYARD_ENGINE_URL to the address of the engine's server, as http://host:port."
    return [Error(f"{settings.ENGINE['BACKEND']} has no address.", hint=hint, id="inference.E001")]


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
