"""Every route fails closed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ("get", "post", "put", "patch", "delete", "options", "head")
OPEN = {"/health", "/ready", "/admin/login/", "/admin/jsi18n/"}
EXAMPLES = {"name": "calendar", "int": "1", "path": "1", "str": "1", "slug": "x"}


def routes(resolver: URLResolver, prefix: str = "/") -> Iterator[str]:
    for entry in resolver.url_patterns:
        part = re.sub(r"<(?:(\w+):)?\w+>", lambda match: EXAMPLES[match[1] or "str"], str(entry.pattern))
        if isinstance(entry, URLPattern):
            yield prefix + part
        else:
            yield from routes(entry, prefix + part)


# Regular expressions (the admin's final catch-all, app lists) end in 404 or a log-in, tried by an example each.
ROUTES = [*sorted({route for route in routes(get_resolver()) if "(" not in route}), "/admin/adapters/", "/admin/x"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", [route for route in ROUTES if route not in OPEN])
def test_anonymous_is_refused(path: str) -> None:
    """401 under /api/, a log-in page elsewhere, for every method."""
    client = Client()
    for method in METHODS:
        response = getattr(client, method)(path)
        if path.startswith("/api/") and path != "/api/docs/":
            assert response.status_code == 401, (method, path)
        elif path == "/":
            assert response.status_code in {302, 405}
        else:
            assert response.status_code in {302, 405}, (method, path)
            if response.status_code == 302:
                assert response["Location"].startswith("/admin/login/?next="), (method, path)


def test_health_is_open(client: Client) -> None:
    """And needs no database."""
    assert client.get("/health").json() == {"status": "ok"}
    assert client.post("/health").status_code == 405
